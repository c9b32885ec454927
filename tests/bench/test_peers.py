"""The page about other memory systems: it says what was measured, and a run may be taken up again."""

import json
from pathlib import Path

from click.testing import CliRunner

from bench.peers import command
from bench.peers.page import SPEED, markdown, replaced

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "bench" / "peers" / "measured.json"


def measured() -> dict[str, object]:
    found: dict[str, object] = json.loads(MEASURED.read_text())
    return found


def test_the_page_holds_exactly_what_was_measured() -> None:
    page = (ROOT / "docs" / "peers.md").read_text()
    assert replaced(page, measured()) == page
    assert markdown(measured()) in page


def test_what_a_file_of_results_holds_is_shown_and_not_measured_again(tmp_path: Path) -> None:
    copy = tmp_path / "measured.json"
    copy.write_bytes(MEASURED.read_bytes())
    sizes = ",".join(measured()["speed"])  # type: ignore[call-overload]
    done = CliRunner().invoke(command, ["--sizes", sizes, "--results", str(copy), "--markdown"])
    assert done.exit_code == 0, done.output
    assert done.stdout == markdown(measured()) + "\n"
    assert copy.read_bytes() == MEASURED.read_bytes()


def test_a_system_that_is_better_is_named_if_it_holds_as_much() -> None:
    row = {"added": 10, "questions": 50, "not_reached": "", **dict.fromkeys(SPEED, 10.0)}
    other = {**row, "recall_p50_ms": 5.0, "bulk_per_s": 30.0, "recall_p95_ms": None, "disk_mb": 9.9}
    given = {
        "versions": {"aico": "1", "chroma": "2"}, "measured": {"10": "2026-01-02"}, "quality": {}, "weight": {},
        "machine": {"cpu": "a", "cores": 2, "python": "3", "load_before": [0.0]},
        "speed": {"10": {"aico": row, "chroma": {**other, "questions": 3}, "mem0": {**other, "added": 7}}},
    }  # fmt: skip
    lines = markdown(given).splitlines()
    assert [line for line in lines if line.startswith("- ")] == [
        "- in bulk, a second at 10 messages: Chroma 3.0x",
        "- recall p50, ms at 10 messages: Chroma 2.0x",
    ]
    [told] = [line for line in lines if line.startswith("| Chroma")]
    assert told.startswith("| Chroma 2, persistent (3 questions in the time given) | 30 |")
    assert " – " in told
    assert "Qdrant in a folder (holds 7) |" in markdown(given)
