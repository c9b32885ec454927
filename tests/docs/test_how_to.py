"""Pages of docs/how-to that are programs: each block of Python runs as it stands, in a home of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
SHOWN = {
    "mem0": ["I moved to Lisbon in May. {'topic': 'home'}"],
    "langgraph": ["style", "a-memory ['likes short, direct language']"],
    "openai-agents": ["2 Hi there!"],
    "async": ["I moved to Lisbon in May.", "True"],
    "mcp": ["I moved to Lisbon in May."],
    "sessions": ["{'draft': 'Dear Otto,', 'open': ['when is the train?']}"],
}
"""What the blocks of a page print, as far as it tells that they did what they say."""

NEEDS = {"mcp": "mcp", "langgraph": "langgraph.store.base", "openai-agents": "agents"}


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (PAGES / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", SHOWN)
def test_every_example_of_the_page_runs_as_it_stands(page: str, tmp_path: Path) -> None:
    if page in NEEDS:
        pytest.importorskip(NEEDS[page], reason=f"the page needs the extra aico[{page}]")
    environment = {**os.environ, "HOME": str(tmp_path), "AICO_EMBEDDER": "none"}
    shown = []
    for block in blocks(page):
        done = subprocess.run(
            [sys.executable, "-c", block], capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        shown += done.stdout.splitlines()
    assert [line for line in SHOWN[page] if line not in shown] == []
