"""The truth: the encrypted structured store, its schemas, and one module for each domain."""

from aico.data.libsql import EncryptedLibSQLConnection, LibSQLConnection
from aico.data.libsql.registry import SchemaRegistry, SchemaVersion, register_schema
from aico.data.user import UserProfile, UserService

__all__ = [
    "EncryptedLibSQLConnection",
    "LibSQLConnection",
    "SchemaRegistry",
    "SchemaVersion",
    "UserProfile",
    "UserService",
    "register_schema",
]
