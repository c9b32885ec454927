"""A report as a picture, PNG or SVG. It is as readable as the report: it leaves the vault's protection."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aico.analytics.reports import Report
from aico.errors import InvalidInput, MissingExtra
from aico.portability.export import new_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = {".png": "png", ".svg": "svg"}


def plot(report: Report, file: Path) -> None:
    """Draw a report into a new file that only its owner may read. Raises InvalidInput for another ending, a file that
    exists or a report without rows, MissingExtra without Matplotlib."""
    kind = FORMATS.get(file.suffix.lower())
    if kind is None:
        raise InvalidInput("a picture ends in .png or .svg; nothing was written", field="plot")
    if not report.answer.rows:
        raise InvalidInput("the report has no rows to draw; nothing was written")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingExtra(
            "a picture needs Matplotlib; nothing was drawn", hint="pip install 'aico[analytics]'"
        ) from exc
    figure = Figure(figsize=(10, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(title=report.title)
    {"lines": _lines, "bars": _bars, "heat": _heat}[report.drawing](axes, report)
    with new_file(file) as opened:
        figure.savefig(opened, format=kind, dpi=150)


def _lines(axes: "Axes", report: Report) -> None:
    for name, (places, values) in _series(report).items():
        axes.plot(places, values, marker="o", markersize=3, label=name)
    axes.legend()
    axes.tick_params(axis="x", rotation=45)


def _bars(axes: "Axes", report: Report) -> None:
    names, values = zip(*[(str(row[0])[:40], _number(row[1])) for row in reversed(report.answer.rows)], strict=True)
    axes.barh(range(len(names)), values)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel(report.answer.columns[1].replace("_", " "))


def _heat(axes: "Axes", report: Report) -> None:
    rows = report.answer.rows
    axes.imshow([[_number(value) for value in row[1:]] for row in rows], aspect="auto", cmap="viridis")
    axes.set_yticks(range(len(rows)), [str(row[0]) for row in rows])
    axes.set_xticks(range(len(rows[0]) - 1), [str(hour) for hour in range(len(rows[0]) - 1)])


def _series(report: Report) -> dict[str, tuple[list[Any], list[float]]]:
    """A line for each column; where the second column is text, one for each of its values."""
    columns, rows = report.answer.columns, report.answer.rows
    drawn: dict[str, tuple[list[Any], list[float]]] = {}
    for row in rows:
        named = [(str(row[1]), row[2])] if isinstance(row[1], str) else zip(columns[1:], row[1:], strict=True)
        for name, value in named:
            places, values = drawn.setdefault(name.replace("_", " "), ([], []))
            places.append(row[0])
            values.append(_number(value))
    return drawn


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
