"""docs/how-to/plugins.md to the letter: its two files are a package that is built, installed beside AICO's wheel and used.

The sample plugin in examples/ is built and used the same way, by its README.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "plugins.md").read_text(encoding="utf-8")
SAMPLE = ROOT / "examples" / "plugin-mood"


def blocks(text: str, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for named, block in fenced if named == language]


def commands(text: str) -> list[str]:
    lines = [line for block in blocks(text, "") for line in block.splitlines()]
    return [line.partition("#")[0].strip() for line in lines if line.startswith(("aico ", "pip "))]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """AICO's wheel in a fresh environment, and a vault."""
    folder = tmp_path_factory.mktemp("plugins")
    uv(folder, "build", "--wheel", "--out-dir", folder / "wheels", ROOT)
    uv(folder, "venv", folder / "env")
    uv(folder, "pip", "install", *(folder / "wheels").glob("*.whl"))
    (folder / "passphrase").write_text("only for tests")
    run(folder, "aico", "init", "--no-keyring", "--no-recovery")
    return folder


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return kept | {
        "VIRTUAL_ENV": str(folder / "env"),
        "PATH": f"{folder / 'env' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "AICO_HOME": str(folder / "vault"),
        "AICO_PASSPHRASE_FILE": str(folder / "passphrase"),
        "AICO_EMBEDDER": "none",
    }


def uv(folder: Path, *arguments: object) -> None:
    run(folder, shutil.which("uv") or "uv", *arguments, "--quiet")


def run(folder: Path, *command: object, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd or folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def follow(folder: Path, project: Path, wanted: Sequence[str]) -> list[str]:
    """Type the commands in the project's folder, saying yes to what it would ask at a terminal; what each showed."""
    shown = []
    for command in wanted:
        program, *arguments = command.split()
        if program == "pip":  # the environment has no pip of its own
            uv(folder, "pip", *[str(project) if one == "." else one for one in arguments])
            shown.append("")
        else:
            asks = ["--yes"] if "rollback" in arguments else []
            shown.append(run(folder, program, *arguments, *asks, cwd=project))
    return shown


def test_the_page_makes_a_plugin_that_is_installed_used_and_taken_out(made, tmp_path):
    [pyproject], [schema, use] = blocks(PAGE, "toml"), blocks(PAGE, "python")
    (tmp_path / "src" / "aico_mood").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(pyproject)
    (tmp_path / "src" / "aico_mood" / "schema.py").write_text(schema)
    *before, take_out = commands(PAGE)
    assert len(before) == 6
    _, listed, planned, *_ = follow(made, tmp_path, before)
    assert "mood" in listed
    assert "CREATE TABLE mood_entries" in planned
    assert run(made, "python", "-c", use) == "hopeful\n"
    follow(made, tmp_path, [take_out])
    assert "mood_entries" not in run(made, "aico", "db", "tables")
    uv(made, "pip", "uninstall", "aico-mood")


@pytest.mark.slow
def test_the_sample_plugin_does_what_its_readme_says(made, tmp_path):
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    uv(made, "build", "--wheel", "--out-dir", tmp_path, SAMPLE)
    uv(made, "pip", "install", *tmp_path.glob("*.whl"))
    follow(made, tmp_path, [command for command in commands(readme) if command.startswith("aico")])
    [use] = blocks(readme, "python")
    assert run(made, "python", "-c", use) == "hopeful because of the new flat\n"
    follow(made, tmp_path, ["aico db rollback mood 0"])
    uv(made, "pip", "uninstall", "aico-plugin-mood")
