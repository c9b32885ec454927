"""libSQL through its wheel: a file whose pages it encrypts itself, or a database on a server.

The wheel has no authorizer, no hooks and no backup: `connection.py` makes up for them, with a twin of the tables in memory.
"""
