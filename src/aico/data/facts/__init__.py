"""Facts: what is held to be true about a person, since when, who vouches for it, and what it took the place of."""

from aico.data.facts.book import FactBook
from aico.data.facts.fact import (
    FACT_TYPES,
    Change,
    Fact,
    History,
    KeptFact,
    Proposal,
    Proposed,
    Status,
    Trust,
)
from aico.data.facts.listing import NameCount
from aico.data.facts.repository import FactRepository

__all__ = [
    "FACT_TYPES",
    "Change",
    "Fact",
    "FactBook",
    "FactRepository",
    "History",
    "KeptFact",
    "NameCount",
    "Proposal",
    "Proposed",
    "Status",
    "Trust",
]
