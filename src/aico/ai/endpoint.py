"""A model behind an HTTP address that the user has set up: one JSON question, one JSON answer.

The only module that opens a connection to a model. Nothing is sent anywhere unless an endpoint was configured.
"""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from aico.errors import InvalidInput, ModelUnavailable

ANSWER_MAX_BYTES = 64 * 1024 * 1024
_READ_BYTES = 64 * 1024


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What is sent is somebody's memory: it goes to the named address and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The base address of a model server, such as `http://localhost:11434`, and the key it asks for, if any."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0
    """How long the server may be silent, and how long its answer may take from its first byte on."""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
        except ValueError:  # half a bracket
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput("the address of a model endpoint begins with http:// or https://", field="base_url")
        if parts.username is not None or parts.password is not None:
            raise InvalidInput(
                "the address of a model endpoint holds a password; nothing was sent",
                hint="pass it as api_key",
                field="base_url",
            )

    def post(self, path: str, body: dict[str, Any]) -> Any:  # JSON in, JSON out
        """Send one question to `path` below the base address and return the answer.

        Raises ModelUnavailable, which names the address and the status, never what was sent.
        """
        request = urllib.request.Request(  # noqa: S310  # http and https only, checked above
            f"{self.base_url.rstrip('/')}/{path.lstrip('/')}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"} | self._authorization(),
        )
        try:
            with urllib.request.build_opener(_NoRedirects).open(request, timeout=self.timeout_s) as response:
                raw = self._whole(response)
        except urllib.error.HTTPError as exc:
            exc.close()  # it holds the connection
            raise self._unavailable(f"answered with status {exc.code}") from None
        except (urllib.error.URLError, HTTPException, OSError, ValueError) as exc:
            raise self._unavailable(f"could not be reached ({type(exc).__name__})") from None
        if len(raw) > ANSWER_MAX_BYTES:
            raise self._unavailable("answered with more than fits")
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise self._unavailable("answered with something that is not JSON") from None

    def _whole(self, response: HTTPResponse) -> bytes:
        """The answer, or a byte more than fits. A server that drips gets as long as one that is silent."""
        parts, size, deadline = list[bytes](), 0, time.monotonic() + self.timeout_s
        while size <= ANSWER_MAX_BYTES and (part := response.read1(_READ_BYTES)):
            parts.append(part)
            size += len(part)
            if time.monotonic() > deadline:
                raise TimeoutError
        return b"".join(parts)

    def _authorization(self) -> dict[str, str]:
        return {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key}"}

    def _unavailable(self, what: str) -> ModelUnavailable:
        return ModelUnavailable(
            f"the model endpoint {self.base_url} {what}; what was recorded is safe",
            hint="check that it runs, its address and its key",
        )
