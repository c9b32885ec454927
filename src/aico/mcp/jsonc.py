"""Sets one member of a JSON document that people edit by hand, and leaves every other byte as it is.

Reads JSON with comments and trailing commas, as editors' settings have them. What it cannot read it refuses.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from aico.errors import InvalidInput

_SPACE = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_SCALAR = re.compile(r"true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
DEPTH_MAX = 200


def with_member(text: str, path: tuple[str, ...], value: Any, *, comments: bool) -> str:  # any JSON
    """The document with `value` at `path`, in the place of what was there; objects on the way are made where missing.

    An empty text is an empty object. Raises InvalidInput for what is no JSON object, and for comments and trailing
    commas unless `comments`; it names the line, never what stands there.
    """
    if not text.strip("\ufeff \t\r\n"):
        return _written(_nested(path, value), "", "  ", "\n") + "\n"
    return _Reader(text, comments=comments).placed(path, value)


@dataclass(frozen=True, slots=True)
class _Value:
    """The value at the end of the path: from where to where it stands."""

    start: int
    end: int
    depth: int


@dataclass(frozen=True, slots=True)
class _Gap:
    """The object in which the path goes no further: where its last member ends, and where it is closed."""

    rest: tuple[str, ...]
    behind: int
    close: int
    depth: int
    is_empty: bool
    ends_with_comma: bool


class _Reader:
    def __init__(self, text: str, *, comments: bool) -> None:
        self.text, self.comments, self.at = text, comments, 1 if text.startswith("\ufeff") else 0
        self.newline = "\r\n" if "\r\n" in text else "\n"
        found = re.search(r"\n([ \t]+)\S", text)
        self.indent = found[1] if found else "  "

    def placed(self, path: tuple[str, ...], value: Any) -> str:  # any JSON
        """The whole document, changed in one place."""
        found = self._object(path, 0)
        self._space()
        if self.at != len(self.text):
            raise self._refused()
        if isinstance(found, _Value):
            if _is(self.text[found.start : found.end], value):
                return self.text
            shown = _written(value, self.indent * found.depth, self.indent, self.newline)
            return self.text[: found.start] + shown + self.text[found.end :]
        return self._filled(found, value)

    def _filled(self, gap: _Gap, value: Any) -> str:  # any JSON
        """A new last member. What stands behind the member before it, a comment say, stays there."""
        outer = self.newline + self.indent * gap.depth
        shown = _written(_nested(gap.rest[1:], value), self.indent * gap.depth, self.indent, self.newline)
        member = f"{json.dumps(gap.rest[0], ensure_ascii=False)}: {shown}{',' if gap.ends_with_comma else ''}"
        comma = "" if gap.is_empty or gap.ends_with_comma else ","
        between = self.text[gap.behind : gap.close].rstrip()
        closing = self.newline + self.indent * (gap.depth - 1)
        return f"{self.text[: gap.behind]}{comma}{between}{outer}{member}{closing}{self.text[gap.close :]}"

    def _object(self, path: tuple[str, ...], depth: int) -> _Value | _Gap:
        """Read the object that begins here; where `path` leads in it."""
        self._space()
        if depth > DEPTH_MAX or not self._take("{"):
            raise self._refused()
        found: _Value | _Gap | None = None
        is_empty, comma, behind = True, False, self.at
        while True:
            self._space()
            close = self.at
            if self._take("}"):
                break
            if not (is_empty or comma):
                raise self._refused()
            key, start = self._key(), self.at
            if path and key == path[0] and len(path) > 1:
                found = self._inner(path[1:], depth)
            else:
                self._value(depth + 1)
                found = _Value(start, self.at, depth + 1) if path and key == path[0] else found
            is_empty, behind = False, self.at
            self._space()
            if comma := self._take(","):
                behind = self.at
        if comma and not self.comments:
            raise self._refused()
        return found or _Gap(path, behind, close, depth + 1, is_empty, comma)

    def _inner(self, path: tuple[str, ...], depth: int) -> _Value | _Gap:
        if not self.text.startswith("{", self.at):
            raise InvalidInput("the place for the entry holds something else; the file is as it was")
        return self._object(path, depth + 1)

    def _key(self) -> str:
        key = self._string()
        self._space()
        if not self._take(":"):
            raise self._refused()
        self._space()
        return key

    def _value(self, depth: int) -> None:
        head = self.text[self.at : self.at + 1]
        if head == "{":
            self._object((), depth)
        elif head == "[":
            self._array(depth)
        elif head == '"':
            self._string()
        elif (found := _SCALAR.match(self.text, self.at)) is not None:
            self.at = found.end()
        else:
            raise self._refused()

    def _array(self, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise self._refused()
        self.at += 1
        count, comma = 0, False
        while True:
            self._space()
            if self._take("]"):
                break
            if count and not comma:
                raise self._refused()
            self._value(depth + 1)
            count += 1
            self._space()
            comma = self._take(",")
        if comma and not self.comments:
            raise self._refused()

    def _string(self) -> str:
        found = _STRING.match(self.text, self.at)
        if found is None:
            raise self._refused()
        try:
            text: str = json.loads(found[0])
        except ValueError:
            raise self._refused() from None
        self.at = found.end()
        return text

    def _space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        assert found is not None  # it matches nothing, too
        if found[0].strip() and not self.comments:
            raise self._refused()
        self.at = found.end()

    def _take(self, sign: str) -> bool:
        taken = self.text.startswith(sign, self.at)
        self.at += taken
        return taken

    def _refused(self) -> InvalidInput:
        line = self.text.count("\n", 0, self.at) + 1
        return InvalidInput(
            f"line {line} is not {'JSON with comments' if self.comments else 'JSON'}; the file is as it was",
            hint="mend it, then try again",
        )


def _is(text: str, value: Any) -> bool:  # any JSON
    """Whether a value says this already, however it is laid out."""
    try:
        return json.dumps(json.loads(text)) == json.dumps(value)
    except ValueError:  # comments inside
        return False


def _nested(path: tuple[str, ...], value: Any) -> Any:  # any JSON
    for key in reversed(path):
        value = {key: value}
    return value


def _written(value: Any, outer: str, indent: str, newline: str) -> str:  # any JSON
    lines = json.dumps(value, indent=indent, ensure_ascii=False).split("\n")
    return newline.join([lines[0], *(outer + line for line in lines[1:])])
