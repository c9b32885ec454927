"""Facts that a language model finds in what was said: off unless it is called, and never believed by themselves."""

from aico.ai.extraction.adapters import OllamaExtractor, OpenAIExtractor
from aico.ai.extraction.answers import ANSWER_SCHEMA, Finding, Refusal, read_answer
from aico.ai.extraction.extractor import INSTRUCTION, Excerpt, FactExtractor, Turn
from aico.ai.extraction.run import Extraction, ExtractionReport

__all__ = [
    "ANSWER_SCHEMA",
    "INSTRUCTION",
    "Excerpt",
    "Extraction",
    "ExtractionReport",
    "FactExtractor",
    "Finding",
    "OllamaExtractor",
    "OpenAIExtractor",
    "Refusal",
    "Turn",
    "read_answer",
]
