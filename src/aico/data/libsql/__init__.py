"""The structured store. The only importer of `apsw`."""

from aico.data.libsql.connection import EncryptedLibSQLConnection, LibSQLConnection, Parameters, Result, Row, Value

__all__ = ["EncryptedLibSQLConnection", "LibSQLConnection", "Parameters", "Result", "Row", "Value"]
