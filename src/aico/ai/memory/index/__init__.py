"""Recall by words and meaning, in memory: `RecallIndex` and the records it takes and gives."""

from aico.ai.memory.index.documents import ALL_KINDS, FACT, MESSAGE, Document, Filter, Scored
from aico.ai.memory.index.recall_index import RecallIndex
from aico.ai.memory.index.vectors import Meaning

__all__ = ["ALL_KINDS", "FACT", "MESSAGE", "Document", "Filter", "Meaning", "RecallIndex", "Scored"]
