"""The page on recall: its example runs as it is written."""

import re
from pathlib import Path

import aico
from aico.testing import PASSPHRASE, cheap_settings

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "recall.md"


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    original = aico.open
    monkeypatch.setattr(
        aico, "open", lambda **_: original(tmp_path / "vault", passphrase=PASSPHRASE, settings=cheap_settings())
    )
    exec(compile(code, str(PAGE), "exec"), {})
    first, *_, nothing, told = re.split(r"\n(?=\[\]\n)|(?<=\[\])\n", capsys.readouterr().out)
    assert "The café by the canal is called Zwirn. (words: " in first
    assert nothing == "[]"
    assert "From earlier:\n[2026-04-03]\nMia: The café by the canal is called Zwirn.\nMia: They bake on Sundays" in told
