"""Models behind an HTTP address that the user has set up: an OpenAI-compatible server, or Ollama."""

from typing import TYPE_CHECKING, Any

from aico.ai.extraction.answers import ANSWER_SCHEMA
from aico.ai.extraction.extractor import INSTRUCTION, Excerpt
from aico.data.limits import checked_name
from aico.errors import ModelUnavailable

if TYPE_CHECKING:
    from aico.ai.endpoint import Endpoint


class OpenAIExtractor:
    """A model of a server with OpenAI's chat interface: `v1/chat/completions`, structured outputs."""

    def __init__(self, endpoint: "Endpoint", model: str) -> None:
        self._endpoint, self.model = endpoint, checked_name(model, field="model")

    def extract(self, excerpt: Excerpt) -> str:
        """The model's answer as it came. Raises ModelUnavailable."""
        schema = {"name": "facts", "strict": True, "schema": ANSWER_SCHEMA}
        answer = self._endpoint.post(
            "v1/chat/completions",
            {
                "model": self.model,
                "messages": _conversation(excerpt),
                "temperature": 0,
                "response_format": {"type": "json_schema", "json_schema": schema},
            },
        )
        return _content(answer, "choices", 0, "message", "content", address=self._endpoint.base_url)


class OllamaExtractor:
    """A model of an Ollama server: `api/chat` with the answer's schema as its format."""

    def __init__(self, endpoint: "Endpoint", model: str) -> None:
        self._endpoint, self.model = endpoint, checked_name(model, field="model")

    def extract(self, excerpt: Excerpt) -> str:
        """The model's answer as it came. Raises ModelUnavailable."""
        answer = self._endpoint.post(
            "api/chat",
            {
                "model": self.model,
                "messages": _conversation(excerpt),
                "stream": False,
                "format": ANSWER_SCHEMA,
                "options": {"temperature": 0},
            },
        )
        return _content(answer, "message", "content", address=self._endpoint.base_url)


def _conversation(excerpt: Excerpt) -> list[dict[str, str]]:
    return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": excerpt.as_json()}]


def _content(answer: Any, *path: str | int, address: str) -> str:  # JSON as it came
    """What the model wrote; nothing where it declined to. Raises ModelUnavailable if this is no chat server's answer."""
    try:
        for step in path:
            answer = answer[step]
    except (LookupError, TypeError):
        answer = False
    if answer is None:
        return ""
    if isinstance(answer, str):
        return answer
    raise ModelUnavailable(
        f"the model endpoint {address} answered with something that is no chat; no fact was made of it",
        hint="check the address and which kind of server it is",
    )
