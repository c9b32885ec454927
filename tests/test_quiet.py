"""What a library does by itself: reports to its maker, files in the home folder. None of it happens."""

import os
import subprocess
import sys

import pytest

USES = {
    "onnxruntime": """
settings = cheap_settings(embedder="auto")
def use(vault):
    vault.views.wait()
    assert vault.memory.recall("mia", "in what town is the new flat?")
""",
    "chromadb": """
from aico.settings import ChromaSpec
settings = replace(cheap_settings(embedder="auto"), chroma=ChromaSpec())
def use(vault):
    vault.views.wait()
""",
    "duckdb": """
settings = cheap_settings()
def use(vault):
    assert vault.analytics.report("activity", "mia").answer.rows
""",
}
PROGRAM = """
import sys, time
from dataclasses import replace
import aico
from aico.testing import PASSPHRASE, cheap_settings
{use}
with aico.open(sys.argv[1], passphrase=PASSPHRASE, settings=settings) as vault:
    vault.memory.record("mia", "I moved to Lisbon in May.", conversation="c1")
    use(vault)
    time.sleep(1)       # reports are made beside the program
"""


@pytest.mark.parametrize("library", USES)
def test_no_library_leaves_a_file_outside_the_vault(tmp_path, library):
    """Reports to a maker begin with a device id in the home folder and wait in files beside it until they are sent."""
    pytest.importorskip(library, reason=f"{library} is not installed")
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    elsewhere = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_", "MPL"))}
    subprocess.run(
        [sys.executable, "-c", PROGRAM.format(use=USES[library]), str(tmp_path / "vault")],
        check=True,
        env={**elsewhere, "HOME": str(home), "TMPDIR": str(temporary)},
    )
    assert [*home.rglob("*"), *temporary.rglob("*")] == []
