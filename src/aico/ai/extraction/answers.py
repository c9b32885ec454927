"""What a model may answer. Everything else is refused, with the reason counted and nothing of it kept."""

import unicodedata
from collections import Counter
from collections.abc import Set
from enum import Enum
from typing import Annotated, Any

import msgspec

from aico.data.facts import FACT_TYPES

FACTS_MAX = 50
TEXT_MAX_CHARS, CATEGORY_MAX_CHARS = 500, 60
_DIRECTIONS = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
"""Unicode's overrides and isolates, which make a text read as another."""

ANSWER_SCHEMA: dict[str, Any] = {  # JSON Schema, for endpoints that hold a model to it
    "type": "object",
    "properties": {
        "facts": {
            "type": "array",
            "maxItems": FACTS_MAX,
            "items": {
                "type": "object",
                "properties": {
                    "turn": {"type": "integer"},
                    "text": {"type": "string"},
                    "type": {"type": "string", "enum": list(FACT_TYPES)},
                    "category": {"type": "string"},
                    "confidence": {"type": "number"},
                },
                "required": ["turn", "text", "type", "category", "confidence"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["facts"],
    "additionalProperties": False,
}


class Refusal(Enum):
    """Why an answer, or one finding in it, was not taken."""

    NO_JSON = "the answer is not JSON"
    OTHER_SHAPE = "the answer does not have the shape that was asked for"
    BAD_FINDING = "a finding lacks a field, has one too many, or one that does not fit"
    UNREADABLE_TEXT = "a finding's text is empty, too long, or holds line breaks or control characters"
    OTHER_TURN = "a finding names a turn that was not asked about"


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fact that a model says a turn tells."""

    turn: int
    text: str
    type: str
    confidence: Annotated[float, msgspec.Meta(ge=0, le=1)]
    category: str = ""

    def __repr__(self) -> str:
        return f"Finding(turn={self.turn}, type={self.type})"


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    facts: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=FACTS_MAX)]


def read_answer(answer: str, turns: Set[int]) -> tuple[list[Finding], Counter[Refusal]]:
    """The findings that can be taken, about these turns only, and how many were refused for which reason."""
    refused: Counter[Refusal] = Counter()
    try:
        raw = msgspec.json.decode(answer.encode(errors="replace"), type=_Answer).facts
    except msgspec.ValidationError:
        return [], Counter([Refusal.OTHER_SHAPE])
    except (msgspec.DecodeError, RecursionError):
        return [], Counter([Refusal.NO_JSON])
    findings = []
    for one in raw:
        finding = _finding(one, turns)
        if isinstance(finding, Refusal):
            refused[finding] += 1
        else:
            findings.append(finding)
    return findings, refused


def _finding(raw: msgspec.Raw, turns: Set[int]) -> Finding | Refusal:
    try:
        finding = msgspec.json.decode(raw, type=Finding)
    except (msgspec.DecodeError, RecursionError):  # a ValidationError is one too
        return Refusal.BAD_FINDING
    if finding.type not in FACT_TYPES:
        return Refusal.BAD_FINDING
    if finding.turn not in turns:
        return Refusal.OTHER_TURN
    if not (_is_line(finding.text, TEXT_MAX_CHARS) and finding.text.strip()):
        return Refusal.UNREADABLE_TEXT
    if not _is_line(finding.category, CATEGORY_MAX_CHARS):
        return Refusal.UNREADABLE_TEXT
    return finding


def _is_line(text: str, most: int) -> bool:
    """Whether it is short and shows as it reads: one line, no control characters, no change of direction."""
    return len(text) <= most and not any(
        unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in _DIRECTIONS for letter in text
    )
