"""What the README shows must run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_ten_line_example_runs_as_it_stands(tmp_path):
    example = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert len(example.strip().splitlines()) <= 12
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, env=environment, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("I moved to Lisbon in May.")
    assert "words: " in lines[0]
    assert "- Mia lives in Lisbon" in done.stdout
    assert lines[-1] == "True"


def test_every_page_that_the_readme_links_to_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target
