"""What every view of the truth owes to a person who forgets. A view joins by a line in CASES; the tests are in
test_view_contract.py, and one of them fails for a view of a vault that is not named here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import aico
from aico.ai.memory.view import View
from aico.settings import ChromaSpec
from aico.testing import PASSPHRASE, FixedClock, HashEmbedder, cheap_settings

NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
SECRET = "the parrot knows the combination of the safe"


def _nothing(vault: aico.Vault) -> object:
    return None


def _ask_for_columns(vault: aico.Vault) -> object:
    return [vault.analytics.sql(name, "SELECT count(*) FROM messages, facts") for name in ("nell", "otto")]


@dataclass(frozen=True, slots=True)
class ViewCase:
    """One view: its name in `vault.views`, and what has to be for it to be there and in use."""

    name: str
    extra: str = ""
    """The module without which it is skipped."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Changes to the settings that bring it up."""
    begin: Callable[[aico.Vault], object] = _nothing
    """What a program does before it is kept at all, for one that waits to be asked."""

    def open(self, folder: Path) -> aico.Vault:
        """The vault in `folder` with this view in it."""
        if self.extra and find_spec(self.extra) is None:
            pytest.skip(f"the view {self.name!r} needs {self.extra}")
        settings = cheap_settings(clock=FixedClock(NOON), embedder=HashEmbedder())
        return aico.open(folder, passphrase=PASSPHRASE, settings=replace(settings, **self.settings))

    def of(self, vault: aico.Vault) -> View:
        """The view itself, having read everything."""
        view = next(view for view in vault.views if view.name == self.name)
        self.begin(vault)
        view.catch_up()
        return view


CASES = (
    ViewCase("recall index"),
    ViewCase("hot tier"),
    ViewCase("item index"),
    ViewCase("analytics", extra="duckdb", begin=_ask_for_columns),
    ViewCase("chroma", extra="chromadb", settings={"chroma": ChromaSpec()}),
)


def fill(vault: aico.Vault) -> dict[str, list[bytes]]:
    """What two people said and what is held true of them, the same words each; the ids by person."""
    for name in ("nell", "otto"):
        said = vault.memory.record(name, SECRET, conversation="secret", at=NOON - timedelta(hours=1))
        vault.memory.record(name, "and what did it say", conversation="secret", at=NOON)
        vault.memory.remember(name, f"{SECRET}, says {name}", source=said, valid_from=NOON)
        vault.memory.recent(name, "secret")
        vault.memory.recall(name, "parrot")
        vault.items.put(name, ("app",), "note", {"said": SECRET}, texts=[SECRET], memory=said)
        vault.items.search(name, "parrot")
    vault.views.wait()
    return {name: [*ids_of(vault, name, "messages"), *ids_of(vault, name, "facts")] for name in ("nell", "otto")}


def ids_of(vault: aico.Vault, name: str, table: str) -> list[bytes]:
    """The ids of a person's rows that tell the secret."""
    sql = f"SELECT id FROM {table} WHERE user_id = ? AND text LIKE '%parrot%'"
    return [row["id"] for row in vault.connection.fetch_all(sql, (vault.users.find(name),))]


def answers(vault: aico.Vault, name: str) -> list[str]:
    """What a person is told, by every way of asking that a view may answer."""
    told = [moment.text for moment in vault.memory.recent(name, "secret")]
    told += [hit.text for hit in vault.memory.recall(name, "the parrot and the safe")]
    told += [item.value["said"] for item, _ in vault.items.search(name, "the parrot and the safe")]
    return [*told, vault.memory.context(name, "parrot", conversation="secret").as_text()]
