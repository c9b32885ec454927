"""Packages that bring plugins: found by their entry points, in a process of their own; a broken one breaks nothing else."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "plugin-mood"
OPEN = """
import aico
from aico.testing import PASSPHRASE, cheap_settings
def open_vault(folder):
    return aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings())
"""


def install(site: Path, name: str, entry_points: dict[str, str], **modules: str) -> None:
    """Put a package where Python finds it, as an installer would."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{key} = {value}" for key, value in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[aico.schemas]", *lines, ""]))
    for module, code in modules.items():
        (site / f"{module}.py").write_text(code)


@pytest.fixture
def site(tmp_path):
    """A folder of installed packages with the sample plugin in it."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    install(tmp_path / "site", project["name"], project["entry-points"]["aico.schemas"])
    return tmp_path / "site"


def python(site: Path, code: str, *arguments: object) -> str:
    path = f"import sys; sys.path[:0] = [{str(site)!r}, {str(EXAMPLE / 'src')!r}]\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", path + OPEN + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_sample_plugin_is_found_used_and_removed(site, tmp_path):
    shown = python(
        site,
        """
with open_vault(sys.argv[1]) as vault:
    print([(p.name, p.version, p.newest, p.problem) for p in vault.plugins.list_plugins()])
    before = vault.connection.fetch_all("SELECT type, name FROM sqlite_schema")
    vault.plugins.install("mood")
    from aico_mood import Moods
    moods = Moods(vault.plugins.tables("mood"))
    moods.note("mia", "hopeful", because="the new flat")
    print([(mood.feeling, mood.because) for mood in moods.latest("mia")], moods.latest("nell"))
    print(vault.connection.fetch_all("SELECT count(*) FROM change_feed WHERE table_name = 'mood_entries'"))
with open_vault(sys.argv[1]) as vault:
    vault.plugins.remove("mood")
    print(vault.connection.fetch_all("SELECT type, name FROM sqlite_schema") == before)
""",
        tmp_path / "vault",
    )
    assert shown.splitlines() == ["[('mood', 0, 2, '')]", "[('hopeful', 'the new flat')] []", "[(1,)]", "True"]


def test_what_the_samples_readme_shows_runs(site, tmp_path):
    [example] = re.findall(r"```python\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    example = example.replace("import aico\n", "").replace("aico.open()", "open_vault(sys.argv[1])")
    assert python(site, example, tmp_path / "vault") == "hopeful because of the new flat\n"


def test_opening_a_vault_imports_no_plugin(site, tmp_path):
    code = "with open_vault(sys.argv[1]): print([name for name in sys.modules if 'mood' in name])"
    assert python(site, code, tmp_path / "vault") == "[]\n"


BROKEN = """
from aico.data import SchemaVersion, register_schema
register_schema("half", "plugin")({1: SchemaVersion(version=1, name="x")})
import nothing_of_that_name
"""
OTHER = """
from aico.data import SchemaVersion, register_schema
register_schema({name!r}, {kind!r})({{1: SchemaVersion(version=1, name="x", sql_statements=["CREATE TABLE t (x)"])}})
"""


def test_broken_plugins_are_named_and_break_nothing_else(site, tmp_path):
    install(site, "broken", {"broken": "broken_plugin"}, broken_plugin=BROKEN)
    install(site, "leaves", {"leaves": "leaving_plugin"}, leaving_plugin="raise SystemExit(3)")
    install(site, "greedy", {"greedy": "greedy_plugin"}, greedy_plugin=OTHER.format(name="greedy", kind="core"))
    install(site, "again", {"zz-again": "second_mood"}, second_mood=OTHER.format(name="mood", kind="plugin"))
    install(site, "gone", {"gone": "no_such_module:nothing"})
    shown = python(
        site,
        """
with open_vault(sys.argv[1]) as vault:
    vault.memory.record("mia", "hello", conversation="c")
    for plugin in vault.plugins.list_plugins():
        print(plugin.name, plugin.newest, plugin.problem.partition(":")[0])
    vault.plugins.install("mood")
    try:
        vault.plugins.install("half")
    except aico.errors.NotFound:
        print("not found")
with open_vault(sys.argv[1]) as vault:
    print(len(vault.memory.recent("mia", "c")))
""",
        tmp_path / "vault",
    )
    assert shown.splitlines() == [
        "mood 2 ",
        "broken 0 ModuleNotFoundError",
        "gone 0 ModuleNotFoundError",
        "greedy 0 InvalidInput",
        "leaves 0 SystemExit",
        "zz-again 0 InvalidInput",
        "not found",
        "1",
    ]


def test_a_vault_opens_without_the_package_of_its_plugin(site, tmp_path):
    python(site, "with open_vault(sys.argv[1]) as vault: vault.plugins.install('mood')", tmp_path / "vault")
    shown = python(
        tmp_path / "elsewhere",
        """
with open_vault(sys.argv[1]) as vault:
    vault.memory.record("mia", "hello", conversation="c")
    print([(p.name, p.version, p.newest, p.problem) for p in vault.plugins.list_plugins()])
    vault.plugins.remove("mood")
    print(vault.plugins.list_plugins())
""",
        tmp_path / "vault",
    )
    assert shown.splitlines() == ["[('mood', 2, 0, 'its package is not installed')]", "[]"]
