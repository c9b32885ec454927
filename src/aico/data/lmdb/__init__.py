"""The hot tier's engine: sealed values that expire, in named LMDB databases. The only folder that imports `lmdb`."""

from aico.data.lmdb.sealed_store import FOR_EVER_S, PREFIX_BYTES, SEQUENCE_BYTES, SealedStore, SealedTransaction

__all__ = ["FOR_EVER_S", "PREFIX_BYTES", "SEQUENCE_BYTES", "SealedStore", "SealedTransaction"]
