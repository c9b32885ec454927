"""The SQL that SQLite and DuckDB answer alike: names, types and values of the answer, to the last digit.

    SELECT item, … FROM table JOIN … WHERE … GROUP BY … HAVING … ORDER BY … LIMIT n

with columns, `count`, `sum`, `avg`, `min`, `max`, comparisons, `+`, `-`, CASE and literals. Each expression has a kind, and
kinds do not mix: to SQLite an instant is a text and `'5'` is more than any number, to DuckDB both are converted. Whatever
is not read here, or could be read in two ways, stays with SQLite (docs/decisions/0041).
"""

import re
from collections.abc import Mapping
from datetime import datetime
from enum import Enum, auto

from aico.data.duckdb import Kind

Columns = Mapping[str, Mapping[str, Kind]]
"""By table, the kind of each column."""


class _Kind(Enum):
    INTEGER = auto()
    PLACE = auto()
    """Of a message in its conversation: sums of these are beyond what both engines hold without rounding."""
    REAL = auto()
    DECIMAL = auto()
    """A literal with a point. DuckDB computes with it in tens, SQLite in twos: they agree about comparisons alone."""
    FLAG = auto()
    TEXT = auto()
    INSTANT = auto()
    ID = auto()


_Kinds = frozenset[_Kind]
"""What an expression may be: a text that is written as instants are may stand beside one, NULL beside anything."""
_INTEGER, _REAL, _DECIMAL, _FLAG, _TEXT = (
    frozenset({kind}) for kind in (_Kind.INTEGER, _Kind.REAL, _Kind.DECIMAL, _Kind.FLAG, _Kind.TEXT)
)
_NULL = frozenset(_Kind)
_NUMBERS = (_INTEGER, _REAL)
_LOGICAL = (_INTEGER, _FLAG, _NULL)
_COMPARABLE = {
    frozenset({_Kind.INTEGER, _Kind.PLACE}),
    frozenset({_Kind.INTEGER, _Kind.REAL}),
    frozenset({_Kind.INTEGER, _Kind.DECIMAL}),
    frozenset({_Kind.REAL, _Kind.DECIMAL}),
    frozenset({_Kind.INTEGER, _Kind.FLAG}),
}
_OF_COLUMN = {
    Kind.INTEGER: _INTEGER,
    Kind.PLACE: frozenset({_Kind.PLACE}),
    Kind.TEXT: _TEXT,
    Kind.FLAG: _FLAG,
    Kind.INSTANT: frozenset({_Kind.INSTANT}),
    Kind.ID: frozenset({_Kind.ID}),
}

_TOKEN = re.compile(
    r"[ \t\n\r\f]*(?:(?P<text>'(?:[^']|'')*')|(?P<decimal>\d{1,9}\.\d{1,6}(?![\w.]))|(?P<integer>\d{1,9}(?![\w.]))"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign><>|!=|<=|>=|[<>=+\-*(),.;]))",
    re.ASCII,
)
_AGGREGATES = frozenset({"count", "sum", "avg", "min", "max"})
_COMPARISONS = frozenset({"=", "<>", "!=", "<", "<=", ">", ">="})
_WORDS = frozenset(
    [
        "all", "and", "anti", "any", "as", "asc", "asof", "at", "between", "by", "case", "cast", "collate", "cross", "desc",
        "distinct", "else", "end", "escape", "except", "exists", "false", "fetch", "filter", "first", "for", "from", "full",
        "glob", "group", "having", "in", "indexed", "inner", "intersect", "into", "is", "isnull", "join", "last", "lateral",
        "left", "like", "limit", "match", "natural", "not", "notnull", "null", "nulls", "offset", "on", "or", "order",
        "outer", "over", "pivot", "positional", "qualify", "regexp", "returning", "right", "sample", "select", "semi", "set",
        "similar", "table", "tablesample", "then", "true", "union", "unpivot", "using", "values", "when", "where", "window",
        "with", "within",
    ]
)  # fmt: skip
"""What no alias is called that has no AS before it: to one of the two engines these begin something else."""
_ID_DIGITS = re.compile(r"[0-9a-f]{32}")


def means_the_same(sql: str, columns: Columns) -> bool:
    """Whether SQLite and DuckDB give the same answer to a statement over these tables: in doubt, not."""
    try:
        _Statement(_tokens(sql), columns).read()
    except _InDoubt:
        return False
    return True


class _InDoubt(Exception):
    """The statement has something that is not known to mean the same."""


def _tokens(sql: str) -> list[tuple[str, str]]:
    """What each word is, and the word: names in small letters. An empty one ends them."""
    if "--" in sql:
        raise _InDoubt
    tokens, at, end = list[tuple[str, str]](), 0, len(sql.rstrip(" \t\n\r\f"))
    while at < end:
        found = _TOKEN.match(sql, at)
        if found is None or found.lastgroup is None:
            raise _InDoubt
        what = found.lastgroup
        tokens.append((what, found[what] if what == "text" else found[what].lower()))
        at = found.end()
    return [*tokens, ("end", "")]


class _Statement:
    """Reads one statement from its first word to its last. Every method raises _InDoubt."""

    def __init__(self, tokens: list[tuple[str, str]], columns: Columns) -> None:
        self._tokens, self._at, self._tables = tokens, 0, columns
        self._sources = dict[str, Mapping[str, Kind]]()
        self._found, self._aliases = dict[str, _Kinds](), dict[str, _Kinds]()
        self._items = list[str]()  # what each is, in words
        self._words_of_alias = dict[str, str]()

    def read(self) -> None:
        self._expect("select")
        items_at = self._at
        self._skip_to_from()
        self._read_sources()
        after_sources, self._at = self._at, items_at
        self._read_items()
        self._at = after_sources
        if self._takes("where"):
            self._logical()
        self._aliases_are_known()
        groups = self._terms() if self._takes("group", "by") else []
        if self._takes("having"):
            self._logical()
        orders = self._terms(ordered=True) if self._takes("order", "by") else []
        if self._takes("limit"):
            self._read_limit()
            if not set(groups) <= set(orders):  # which rows are left out is open otherwise
                raise _InDoubt
        self._takes(";")
        if self._what != "end":
            raise _InDoubt

    # Sources and items

    def _skip_to_from(self) -> None:
        """No statement within a statement is read, so the first FROM is the one."""
        while self._what != "end" and not (self._what == "name" and self._word == "from"):
            self._at += 1

    def _read_sources(self) -> None:
        self._expect("from")
        self._read_source()
        while True:
            if self._takes(",") or self._takes("cross", "join"):
                self._read_source()
            elif self._takes("join") or self._takes("inner", "join") or self._takes_left_join():
                self._read_source()
                self._expect("on")
                self._logical()
            else:
                return

    def _takes_left_join(self) -> bool:
        return self._takes("left", "join") or self._takes("left", "outer", "join")

    def _read_source(self) -> None:
        table = self._name()
        alias = self._alias() or table
        if table not in self._tables or alias in self._sources:
            raise _InDoubt
        self._sources[alias] = self._tables[table]

    def _read_items(self) -> None:
        while True:
            began = self._at
            kinds = self._logical_or_value()
            words = self._words(began)
            self._items.append(words)
            alias = self._alias()
            if alias is not None:
                if alias in self._found:
                    raise _InDoubt
                self._found[alias] = kinds
                self._words_of_alias[alias] = words
            if not self._takes(","):
                break
        if self._word != "from":
            raise _InDoubt

    def _aliases_are_known(self) -> None:
        """From here on: to DuckDB WHERE knows them too, and to SQLite in other places than there."""
        self._aliases = self._found

    def _alias(self) -> str | None:
        """One that is no name of anything else, which would mean this in one place and that in another."""
        said = self._takes("as")
        if self._what != "name" or (self._word in _WORDS and not said):
            if said:
                raise _InDoubt
            return None
        alias = self._next()
        taken = _AGGREGATES | set(self._tables) | set(self._sources)
        if alias in taken or any(alias in columns for columns in self._tables.values()):
            raise _InDoubt
        return alias

    # Terms

    def _terms(self, *, ordered: bool = False) -> list[str]:
        """What GROUP BY or ORDER BY names, each in the words of the item that it stands for."""
        terms = list[str]()
        while True:
            began, what = self._at, self._what
            if what == "integer":
                place = int(self._next())
                if not 0 < place <= len(self._items):
                    raise _InDoubt
                terms.append(self._items[place - 1])
            elif what == "name" and self._word not in ("true", "false", "null"):
                self._value()
                words = self._words(began)
                terms.append(self._words_of_alias.get(words, words))
            else:
                raise _InDoubt
            if ordered:
                _ = self._takes("asc") or self._takes("desc")
                _ = self._takes("nulls", "first") or self._takes("nulls", "last")
            if not self._takes(","):
                return terms

    def _read_limit(self) -> None:
        self._integer()
        if self._takes("offset"):
            self._integer()

    # Expressions, from what binds least

    def _logical(self) -> None:
        """A condition. What is neither true nor false, nor a whole number, is no condition to DuckDB."""
        if self._logical_or_value() not in _LOGICAL:
            raise _InDoubt

    def _logical_or_value(self) -> _Kinds:
        kinds = self._conjunction()
        while self._takes("or"):
            kinds = _flag_of(kinds, self._conjunction())
        return kinds

    def _conjunction(self) -> _Kinds:
        kinds = self._negation()
        while self._takes("and"):
            kinds = _flag_of(kinds, self._negation())
        return kinds

    def _negation(self) -> _Kinds:
        if self._takes("not"):
            return _flag_of(self._negation())
        return self._comparison()

    def _comparison(self) -> _Kinds:
        left = self._value()
        if self._what == "sign" and self._word in _COMPARISONS:
            self._at += 1
            return _compared(left, self._value())
        if self._takes("is", "null") or self._takes("is", "not", "null"):
            return _FLAG
        negated = self._takes("not")
        if self._takes("between"):
            _compared(left, self._value())
            self._expect("and")
            return _compared(left, self._value())
        if self._takes("in"):
            self._expect("(")
            kinds = [self._value()]
            while self._takes(","):
                kinds.append(self._value())
            self._expect(")")
            for kind in kinds:
                if not left & kind:  # of one kind: DuckDB would convert all of them to a common one
                    raise _InDoubt
            return _FLAG
        if negated:
            raise _InDoubt
        return left

    def _value(self) -> _Kinds:
        kinds = self._product()
        while self._takes("+") or self._takes("-"):
            kinds = _computed(kinds, self._product())
        return kinds

    def _product(self) -> _Kinds:
        """Of a whole number and something: two sums multiplied may be more than SQLite's whole numbers can hold."""
        literal = self._what == "integer"
        kinds = self._factor()
        if self._takes("*"):
            if not (literal or self._what == "integer"):
                raise _InDoubt
            return _computed(kinds, self._factor())
        return kinds

    def _factor(self) -> _Kinds:
        if self._takes("-"):
            return _computed(_INTEGER, self._factor())
        if self._takes("("):
            kinds = self._logical_or_value()
            self._expect(")")
            return kinds
        what, word = self._what, self._next()
        if what == "integer":
            return _INTEGER
        if what == "decimal":
            return _DECIMAL
        if what == "text":
            return _of_literal(word[1:-1])
        if what != "name":
            raise _InDoubt
        if word in ("true", "false"):
            return _FLAG
        if word == "null":
            return _NULL
        if word == "case":
            return self._case()
        if word in _AGGREGATES and self._word == "(":
            return self._aggregate(word)
        return self._column(word)

    def _case(self) -> _Kinds:
        kinds = _NULL
        self._expect("when")
        while True:
            self._logical()
            self._expect("then")
            kinds = _alike(kinds, self._value())
            if not self._takes("when"):
                break
        if self._takes("else"):
            kinds = _alike(kinds, self._value())
        self._expect("end")
        return kinds

    def _aggregate(self, name: str) -> _Kinds:
        self._expect("(")
        if name == "count" and self._takes("*"):
            kinds = _INTEGER
        else:
            self._takes("distinct")
            kinds = _aggregated(name, self._logical_or_value())
        self._expect(")")  # several values are no aggregate to SQLite
        if self._takes("filter"):
            self._expect("(")
            self._expect("where")
            self._logical()
            self._expect(")")
        return kinds

    def _column(self, name: str) -> _Kinds:
        if self._takes("."):
            found = [self._sources.get(name, {}).get(self._name())]
        else:
            if name in self._aliases:
                return self._aliases[name]
            found = [columns[name] for columns in self._sources.values() if name in columns]
        if len(found) != 1 or found[0] not in _OF_COLUMN:
            raise _InDoubt
        return _OF_COLUMN[found[0]]

    # Words

    @property
    def _what(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _word(self) -> str:
        return self._tokens[self._at][1]

    def _next(self) -> str:
        word = self._word
        if self._what == "end":
            raise _InDoubt
        self._at += 1
        return word

    def _name(self) -> str:
        if self._what != "name" or self._word in _WORDS:
            raise _InDoubt
        return self._next()

    def _integer(self) -> None:
        if self._what != "integer":
            raise _InDoubt
        self._at += 1

    def _takes(self, *words: str) -> bool:
        """Go past these words if they are the next ones."""
        there = self._tokens[self._at : self._at + len(words)]
        if [word for what, word in there if what in ("name", "sign")] != list(words):
            return False
        self._at += len(words)
        return True

    def _expect(self, word: str) -> None:
        if not self._takes(word):
            raise _InDoubt

    def _words(self, began: int) -> str:
        return " ".join(word for _, word in self._tokens[began : self._at])


def _of_literal(text: str) -> _Kinds:
    """A text is an instant or an id as well only where it is written as the personal tables write them."""
    kinds = set(_TEXT)
    if _is_instant(text):
        kinds.add(_Kind.INSTANT)
    if _ID_DIGITS.fullmatch(text):
        kinds.add(_Kind.ID)
    return frozenset(kinds)


def _is_instant(text: str) -> bool:
    try:
        return len(text) == 26 and datetime.fromisoformat(text).isoformat(" ", "microseconds") == text
    except ValueError:
        return False


def _flag_of(*operands: _Kinds) -> _Kinds:
    if any(kinds not in _LOGICAL for kinds in operands):
        raise _InDoubt
    return _FLAG


def _compared(left: _Kinds, right: _Kinds) -> _Kinds:
    if not left & right and left | right not in _COMPARABLE:
        raise _InDoubt
    return _FLAG


def _computed(left: _Kinds, right: _Kinds) -> _Kinds:
    if left not in _NUMBERS or right not in _NUMBERS:
        raise _InDoubt
    return _REAL if _REAL in (left, right) else _INTEGER


def _alike(left: _Kinds, right: _Kinds) -> _Kinds:
    """What CASE gives, where all that it may give is of one kind."""
    kinds = left & right
    if not kinds:
        raise _InDoubt
    return _TEXT if _Kind.TEXT in kinds and kinds != _NULL else kinds


def _aggregated(name: str, of: _Kinds) -> _Kinds:
    if name == "count":
        return _INTEGER
    if name in ("min", "max"):
        return of
    if of == _INTEGER:
        return _REAL if name == "avg" else _INTEGER
    if name == "sum" and of == _FLAG:
        return _INTEGER
    raise _InDoubt
