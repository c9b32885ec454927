"""Memory: record, recall, assemble, forget."""
