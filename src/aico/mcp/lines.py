"""What a client sends, as the server reads it: every line is answered, also one that the SDK cannot read.

The SDK drops such a line, and the client would wait for ever. Half a character (`"\\ud83d"`, which JavaScript makes of a text
that was cut within an emoji) becomes the replacement character, as it would in UTF-8; anything else is answered by the
protocol's own error. Nothing of what was sent is repeated.
"""

import re
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from mcp.shared._stream_protocols import ReadStream, WriteStream
    from mcp.shared.message import SessionMessage

_PAIR = r"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF = r"u[dD][89a-fA-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rf"\\(?:{_PAIR}|(?P<half>{_HALF})|.)", re.DOTALL)
_BLANK = ("\n", "\r\n")


def mended(line: str) -> str:
    """JSON in which each escape of half a character is one of the replacement character."""
    return _ESCAPE.sub(lambda found: r"\ufffd" if found["half"] else found[0], line)


class Answered:
    """The SDK's stream of what it read, without what it could not read: that is mended, or answered here."""

    def __init__(
        self, reading: "ReadStream[SessionMessage | Exception]", writing: "WriteStream[SessionMessage]"
    ) -> None:
        self._reading, self._writing = reading, writing

    async def receive(self) -> "SessionMessage | Exception":
        while isinstance(item := await self._reading.receive(), Exception):
            message = _second_reading(item)
            if message is not None:
                return message
            if _line(item) not in _BLANK:
                await self._writing.send(_refusal(item))
        return item

    async def aclose(self) -> None:
        await self._reading.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> "SessionMessage | Exception":
        from anyio import EndOfStream

        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        await self._reading.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._reading.__aexit__(kind, error, trace)


def _line(problem: Exception) -> str | None:
    """The line, where it is no JSON; None where it is, and is no message of the protocol."""
    from pydantic import ValidationError

    found = problem.errors(include_url=False) if isinstance(problem, ValidationError) else []
    line = found[0]["input"] if found and found[0]["type"] == "json_invalid" else None
    return line if isinstance(line, str) else None


def _second_reading(problem: Exception) -> "SessionMessage | None":
    from mcp import types
    from mcp.shared.message import SessionMessage
    from pydantic import ValidationError

    line = _line(problem)
    if line is None or (whole := mended(line)) == line:
        return None
    try:
        return SessionMessage(types.jsonrpc_message_adapter.validate_json(whole, by_name=False))
    except ValidationError:
        return None


def _refusal(problem: Exception) -> "SessionMessage":
    """The answer to what cannot be read; whose request it was nobody can tell."""
    from mcp import types
    from mcp.shared.message import SessionMessage

    code, told = (
        (types.INVALID_REQUEST, "this is no message of the protocol; nothing was done")
        if _line(problem) is None
        else (types.PARSE_ERROR, "this is not JSON that can be read; nothing was done")
    )
    error = types.ErrorData(code=code, message=told)
    return SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=None, error=error))
