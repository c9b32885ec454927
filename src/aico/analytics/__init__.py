"""What a person's memory tells when it is looked at as a whole: columns of the truth, reports, and what leaves for training."""
