"""Random histories of a vault of two people, against plain data."""
