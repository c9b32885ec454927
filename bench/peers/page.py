"""Results as Markdown, as they stand in docs/peers.md between its two marks."""

from collections.abc import Iterator, Mapping
from typing import Any

from bench.peers.speed import QUESTIONS

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
NAMES = {
    "aico": "AICO {} (sealed)",
    "citadel": "Citadel {} (sealed)",
    "mem0": "mem0 {}, Qdrant in a folder",
    "chroma": "Chroma {}, persistent",
    "langgraph": "LangGraph's SQLite store {}",
}
SPEED = {
    "bulk_per_s": "in bulk, a second",
    "add_p50_ms": "one durable add, ms",
    "recall_p50_ms": "recall p50, ms",
    "recall_p95_ms": "recall p95, ms",
    "first_recall_ms": "first recall, ms",
    "disk_mb": "disk, MB",
    "peak_mb": "memory, MB",
    "files_with_a_canary": "files with a canary",
}
WEIGHT = {"installed_mb": "installed, MB", "packages": "packages", "import_s": "import, s"}
QUALITY = {"any@10": "any@10", "all@10": "all@10"}
MORE_IS_BETTER = {"bulk_per_s", "any@10", "all@10"}
OURS = "aico"


def markdown(results: Mapping[str, Any]) -> str:
    """The machine and the day, a table for each part, and every figure in which another system is better than ours."""
    return "\n".join(_lines(results))


def replaced(page: str, results: Mapping[str, Any]) -> str:
    """A page with the figures of `results` between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown(results)}\n{END}{after}"


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    machine, days = results["machine"], sorted(set(results["measured"].values()))
    where = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}"
    yield f"Measured on {' and '.join(days)}: {where}, load before {machine['load_before'][0]:.1f}."
    for count, rows in results["speed"].items():
        yield from _table(f"{int(count):,} messages of one person", SPEED, rows, results["versions"], int(count))
    if results["quality"]:
        asked = next(iter(results["quality"].values()))["questions"]
        title = f"LoCoMo, {asked:,} questions of categories 1 to 4, evidence among the first ten"
        yield from _table(title, QUALITY, results["quality"], results["versions"])
    yield from _table("Weight", WEIGHT, results["weight"], results["versions"])
    yield "\n## Where another is better\n"
    yield from _losses(results) or ["Nowhere in this run."]


def _table(
    title: str, columns: Mapping[str, str], rows: Mapping[str, Any], versions: Mapping[str, str], count: int = 0
) -> Iterator[str]:
    yield f"\n## {title}\n"
    yield f"| | {' | '.join(columns.values())} |"
    yield f"| --- {'| --- ' * len(columns)}|"
    for name, row in rows.items():
        figures = " | ".join(_figure(row[column]) for column in columns)
        yield f"| {_name(name, versions)}{_reach(row, count)} | {figures} |"


def _reach(row: Mapping[str, Any], count: int) -> str:
    """In brackets, what a row rests on where that is less than for the others."""
    notes = [row["not_reached"]] if row.get("not_reached") else []
    if count and row["added"] < count:
        notes.append(f"holds {row['added']:,}")
    if count and row["questions"] < QUESTIONS and not row["not_reached"]:
        notes.append(f"{row['questions']} questions in the time given")
    return f" ({'; '.join(notes)})" if notes else ""


def _losses(results: Mapping[str, Any]) -> list[str]:
    """A line for each figure in which some system that holds as much is better than ours by a tenth or more."""
    parts = [(f"at {int(count):,} messages", SPEED, rows) for count, rows in results["speed"].items()]
    parts += [("on LoCoMo", QUALITY, results["quality"]), ("", WEIGHT, results["weight"])]
    lines = []
    for where, columns, rows in parts:
        for column, meaning in columns.items():
            better = _better(column, rows)
            if better:
                told = ", ".join(f"{NAMES[name].split(' {}')[0]} {times:.1f}x" for name, times in better)
                lines.append(f"- {' '.join(filter(None, (meaning, where)))}: {told}")
    return lines


def _better(column: str, rows: Mapping[str, Any]) -> list[tuple[str, float]]:
    ours, whole = rows.get(OURS, {}).get(column), rows.get(OURS, {}).get("added", 0)
    found = []
    for name, row in rows.items():
        if name != OURS and ours and row[column] and row.get("added", 0) >= whole:
            times = row[column] / ours if column in MORE_IS_BETTER else ours / row[column]
            if times >= 1.1:
                found.append((name, times))
    return sorted(found, key=lambda pair: -pair[1])


def _name(name: str, versions: Mapping[str, str]) -> str:
    return NAMES[name].format(versions.get(name, "")).replace("  ", " ")


def _figure(value: float | None) -> str:
    """About three digits that count; a dash where nothing was measured."""
    if value is None:
        return "–"
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
