"""The structured store. The only importer of `apsw` and `libsql`."""

from aico.data.libsql.connection import EncryptedLibSQLConnection, EngineName, LibSQLConnection, Parameters, Value
from aico.data.libsql.rows import Result, Row

__all__ = ["EncryptedLibSQLConnection", "EngineName", "LibSQLConnection", "Parameters", "Result", "Row", "Value"]
