"""The SQL that SQLite and DuckDB answer alike: names, types and values of the answer, to the last digit.

    SELECT item, … FROM table JOIN … WHERE … GROUP BY … HAVING … ORDER BY … LIMIT n

with columns, `count`, `sum`, `avg`, `min`, `max`, comparisons, `+`, `-`, CASE and literals. DuckDB's own parser reads the
statement, and its tree is walked here. Each expression has a kind, and kinds do not mix: to SQLite an instant is a text
and `'5'` is more than any number, to DuckDB both are converted. A node that is not known here, or has more to it than is
known, leaves the statement to SQLite (docs/decisions/0041).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from aico.analytics import sql_kinds
from aico.analytics.sql_kinds import FLAG, INTEGER, InDoubt, SqlKind
from aico.data.duckdb import Kind, syntax_tree

Columns = Mapping[str, Mapping[str, Kind]]
"""By table, the kind of each column."""
_Node = dict[str, Any]

_SPELLED_ALIKE = re.compile(
    r"(?:[A-Za-z_]\w*+(?!')"  # a name: x'00' is no text to SQLite, e'\n' no plain one to DuckDB
    r"|\d++(?:\.\d++)?(?![\w.])"  # a number: 0x10 is one to SQLite alone
    r"|'(?:[^'\0]|'')*+'(?![ \t\n\r\f]*')"  # a text: two of them are one to DuckDB
    r"|[ \t\n\r\f<>+*(),.;]|-(?!-)|!=|=(?!=))*+",
    re.ASCII,
)
"""What both take for the same words: no quoted names, brackets, comments, parameters, nor other operators."""
_LENGTH_MAX = 20_000
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_AGGREGATES = frozenset({"count", "sum", "avg", "min", "max"})

_COMPARISONS = frozenset(
    f"COMPARE_{sign}"
    for sign in ("EQUAL", "NOTEQUAL", "LESSTHAN", "LESSTHANOREQUALTO", "GREATERTHAN", "GREATERTHANOREQUALTO")
)
_PLACES = frozenset({"query_location", "query_location_length"})
_PARTS = frozenset(
    """
    type class alias modifiers cte_map select_list from_table where_clause group_expressions group_sets having
    aggregate_handling table_name qualified_name path join_type ref_type is_implicit condition left right orders null_order
    expression limit offset column_names literal kind text function_name order_bys is_operator distinct filter arguments
    children input lower upper case_checks when_expr then_expr else_expr
    """.split()  # noqa: SIM905
)
"""The parts of a node that are understood. Any other, such as the columns of USING, changes what the node means."""


def means_the_same(sql: str, columns: Columns) -> bool:
    """Whether SQLite and DuckDB give the same answer to a statement over these tables: in doubt, not.

    Raises MissingExtra without DuckDB.
    """
    if len(sql) > _LENGTH_MAX or not _SPELLED_ALIKE.fullmatch(sql):
        return False
    outside_and_inside_texts = enumerate(sql.split("'"))
    in_small_letters = "'".join(part if n % 2 else part.lower() for n, part in outside_and_inside_texts)
    try:
        _Statement(columns).read(_understood(syntax_tree(in_small_letters)))
    except (InDoubt, RecursionError):
        return False
    return True


def _understood(node: Any) -> Any:
    """The tree without the places of its words. Raises InDoubt where it has a part that is not known."""
    if isinstance(node, list):
        return [_understood(one) for one in node]
    if not isinstance(node, dict):
        return node
    parts = {part: _understood(of) for part, of in node.items() if part not in _PLACES}
    if not parts.keys() <= _PARTS:
        raise InDoubt
    return parts


class _Statement:
    """Walks the tree of one statement. Every method raises InDoubt."""

    def __init__(self, columns: Columns) -> None:
        self._tables = columns
        self._sources = dict[str, Mapping[str, Kind]]()
        self._items = list[_Node]()
        self._aliases = dict[str, SqlKind]()
        self._multiplies = False

    def read(self, tree: _Node | None) -> None:
        if tree is None or tree["type"] != "SELECT_NODE" or tree["aggregate_handling"] != "STANDARD_HANDLING":
            raise InDoubt
        groups = tree.get("group_expressions", [])
        if tree.get("group_sets", [[]]) != [list(range(len(groups)))]:
            raise InDoubt
        self._read_source(tree["from_table"])
        self._items = tree["select_list"]
        kinds = [self._kind(item) for item in self._items]
        if "where_clause" in tree:
            self._condition(tree["where_clause"])
        self._take_aliases(kinds)  # after WHERE: to DuckDB it knows them too
        grouped = [self._term(group) for group in groups]
        if "having" in tree:
            self._condition(tree["having"])
        self._read_modifiers(tree.get("modifiers", []), grouped)

    # Sources, aliases and terms

    def _read_source(self, source: _Node) -> None:
        match source:
            case {"type": "BASE_TABLE", "table_name": table, "qualified_name": {"path": [_]}} if table in self._tables:
                alias = self._own_name(source["alias"]) if "alias" in source else table
                if alias in self._sources:
                    raise InDoubt
                self._sources[alias] = self._tables[table]
            case {"join_type": "INNER" | "LEFT", "ref_type": "REGULAR", "condition": on}:
                self._read_joined(source)
                self._condition(on)
            case {"join_type": "INNER", "ref_type": "CROSS"}:
                self._read_joined(source)
            case _:
                raise InDoubt

    def _read_joined(self, join: _Node) -> None:
        self._read_source(join["left"])
        if join["right"]["type"] != "BASE_TABLE":
            raise InDoubt
        self._read_source(join["right"])

    def _take_aliases(self, kinds: list[SqlKind]) -> None:
        for item, kind in zip(self._items, kinds, strict=True):
            if "alias" in item:
                alias = self._own_name(item["alias"])
                if alias in self._aliases:
                    raise InDoubt
                self._aliases[alias] = kind

    def _own_name(self, alias: str) -> str:
        """An alias that is no name of anything else, which would mean this in one place and that in another."""
        taken = _AGGREGATES.union(self._tables, self._sources, *self._tables.values())
        if alias in taken or not _NAME.fullmatch(alias):
            raise InDoubt
        return alias

    def _term(self, term: _Node) -> _Node:
        """What GROUP BY or ORDER BY names: an item, by its place or its alias, or an expression of its own."""
        if term["class"] == "CONSTANT":
            place = _whole_number(term)
            if not 0 < place <= len(self._items):
                raise InDoubt
            term = self._items[place - 1]
        else:
            self._kind(term)
            term = next((item for item in self._items if term.get("column_names") == [item.get("alias")]), term)
        return {part: of for part, of in term.items() if part != "alias"}

    def _read_modifiers(self, modifiers: list[_Node], grouped: list[_Node]) -> None:
        ordered = list[_Node]()
        for modifier in modifiers:
            match modifier:
                case {"type": "ORDER_MODIFIER", "orders": orders}:
                    ordered = [self._term(order["expression"]) for order in orders]
                case {"type": "LIMIT_MODIFIER", "limit": _}:
                    bounds = [_whole_number(modifier[name]) for name in ("limit", "offset") if name in modifier]
                    if min(bounds) < 0 or any(group not in ordered for group in grouped):
                        raise InDoubt  # which rows are left out is open
                case _:
                    raise InDoubt

    # Expressions

    def _kind(self, node: _Node) -> SqlKind:
        match node:
            case {"class": "COLUMN_REF", "column_names": names}:
                return self._column(*names)
            case {"class": "CONSTANT", "literal": literal}:
                return sql_kinds.of_literal(**literal)
            case {"class": "CONJUNCTION", "children": children} | {"type": "OPERATOR_NOT", "children": children}:
                for child in children:
                    self._condition(child)
                return FLAG
            case {"type": "OPERATOR_IS_NULL" | "OPERATOR_IS_NOT_NULL", "children": [value]}:
                self._value(value)
                return FLAG
            case {"type": "COMPARE_IN", "children": [value, first, *more]}:
                kind = self._value(value)
                for other in (first, *more):
                    sql_kinds.one_of([kind, self._value(other)])  # DuckDB would convert all to a common kind
                return FLAG
            case {"class": "BETWEEN", "input": value, "lower": lower, "upper": upper}:
                kind = self._value(value)
                sql_kinds.compared(kind, self._value(lower))
                return sql_kinds.compared(kind, self._value(upper))
            case {"class": "COMPARISON", "type": sign, "left": left, "right": right} if sign in _COMPARISONS:
                return sql_kinds.compared(self._value(left), self._value(right))
            case {"class": "CASE", "case_checks": checks, "else_expr": otherwise}:
                for check in checks:
                    self._condition(check["when_expr"])
                return sql_kinds.one_of(
                    [self._value(otherwise), *(self._value(check["then_expr"]) for check in checks)]
                )
            case {"class": "FUNCTION", "is_operator": True, "function_name": sign, "arguments": arguments}:
                return self._computed(sign, [argument["expression"] for argument in arguments])
            case {"class": "FUNCTION", "function_name": name, "qualified_name": {"path": [_]}, "order_bys": order}:
                if "filter" in node:
                    self._condition(node["filter"])
                match node.get("arguments", []):
                    case [] if name == "count_star":
                        return INTEGER
                    case [{"expression": argument}] if "orders" not in order:  # of several it is none to SQLite
                        return sql_kinds.aggregated(name, self._kind(argument))
        raise InDoubt

    def _condition(self, node: _Node) -> SqlKind:
        return sql_kinds.condition(self._kind(node))

    def _value(self, node: _Node) -> SqlKind:
        """No condition: the tree does not say whether a comparison within another stood in brackets, and without them
        the engines begin with different ones."""
        if node["class"] not in ("COLUMN_REF", "CONSTANT", "FUNCTION", "CASE"):
            raise InDoubt
        return self._kind(node)

    def _column(self, *names: str) -> SqlKind:
        *source, name = names
        if not source and name in self._aliases:
            return self._aliases[name]
        among = [self._sources.get(".".join(source), {})] if source else self._sources.values()
        kinds = [columns[name] for columns in among if name in columns]
        if len(kinds) != 1 or kinds[0].name not in SqlKind.__members__:
            raise InDoubt
        return SqlKind[kinds[0].name]

    def _computed(self, sign: str, operands: Sequence[_Node]) -> SqlKind:
        multiplies = sign == "*"
        if (sign, len(operands)) not in {("-", 1), ("-", 2), ("+", 2), ("*", 2)}:
            raise InDoubt
        if multiplies and (self._multiplies or "CONSTANT" not in [operand["class"] for operand in operands]):
            raise InDoubt  # two sums multiplied may be more than SQLite's whole numbers can hold
        self._multiplies |= multiplies
        kind = sql_kinds.computed([self._value(operand) for operand in operands])
        self._multiplies &= not multiplies
        return kind


def _whole_number(node: _Node) -> int:
    if node["class"] != "CONSTANT" or sql_kinds.of_literal(**node["literal"]) != INTEGER:
        raise InDoubt
    return int(node["literal"]["text"])
