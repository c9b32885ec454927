"""The structured store. The only importer of `apsw`."""

from aico.data.libsql.connection import EncryptedLibSQLConnection, LibSQLConnection, Parameters, Value
from aico.data.libsql.rows import Result, Row

__all__ = ["EncryptedLibSQLConnection", "LibSQLConnection", "Parameters", "Result", "Row", "Value"]
