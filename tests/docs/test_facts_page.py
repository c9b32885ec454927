"""The page on facts: its first example runs as it is written."""

import re
from pathlib import Path

import aico
from aico.testing import PASSPHRASE, cheap_settings

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "facts.md"


def test_the_first_example_runs(tmp_path, monkeypatch, capsys):
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    original = aico.open
    monkeypatch.setattr(
        aico, "open", lambda **_: original(tmp_path / "vault", passphrase=PASSPHRASE, settings=cheap_settings())
    )
    exec(compile(code, str(PAGE), "exec"), {})
    shown = capsys.readouterr().out
    assert "Mia lives on Weidenweg, third floor user ('" in shown
    assert "evening sun on the balcony" in shown
    assert [line.split()[-1] for line in shown.splitlines()[1:]] == ["remembered", "edited", "superseded"]
