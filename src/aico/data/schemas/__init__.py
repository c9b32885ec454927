"""All DDL, append-only: the history of the file on disk. Every module here registers one schema."""
