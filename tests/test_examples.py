"""Every example of examples/ runs as it stands and says what it should."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SAYS = {
    "mem0_chat": ("", "Which instrument does Ana play? You told me: My sister Ana plays the cello."),
    "openai_agents_session": ("agents", "What state is it in? California"),
    "langgraph_memory": ("langgraph.graph", "What instrument does Mia play? Mia plays the viola on Mondays."),
}


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_the_example_runs(name: str, tmp_path: Path) -> None:
    needs, says = SAYS[name]
    if needs:
        pytest.importorskip(needs, reason=f"the example needs {needs}")
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "AICO_EMBEDDER": "none"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert says in done.stdout.splitlines()
