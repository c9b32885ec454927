"""The settings of a vault as a person sees them: what each is, what it is set to, and who says so."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from aico.errors import InvalidInput, NotFound
from aico.files import read_plain_file
from aico.settings import (
    CONFIG_FILE,
    EMBEDDER_VARIABLE,
    ChromaSpec,
    EmbedderSpec,
    RerankerSpec,
    Settings,
    load_settings,
)

Value = str | int | float | bool
_YES_OR_NO = {"true": True, "yes": True, "false": False, "no": False}
SECRET_WORDS = ("passphrase", "password", "phrase", "secret", "token", "key")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name in `config.toml`, with a dot for the table it is in, its unit and what it does."""

    name: str
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class CurrentSetting:
    """One setting as it stands; `source` is default, file or environment."""

    name: str
    value: Value
    default: Value
    unit: str
    meaning: str
    source: str


SETTINGS = (
    Setting("kdf.memory_kib", "KiB", "memory that one guess at a passphrase costs; holds for new keyslots"),
    Setting("kdf.passes", "passes", "how often a guess goes over that memory; holds for new keyslots"),
    Setting("kdf.lanes", "lanes", "how many threads may share a guess; holds for new keyslots"),
    Setting(
        "engine",
        "name",
        "what a vault that is made keeps its database with: sqlite, or libsql, which notices no change",
    ),
    Setting("embedder", "name", "the model that finds memories by meaning; `aico models` chooses others"),
    Setting("chroma", "kind", "a view of the vectors in Chroma: memory, server or local; none unless it is named"),
    Setting("reranker", "name", "what reads the best hits once more; `aico models rerank` chooses one"),
    Setting("reranker_depth", "hits", "how many of the best hits the reranker reads"),
    Setting("busy_wait_s", "seconds", "how long a write waits for its turn"),
    Setting("episode_gap_s", "seconds", "a longer pause in a conversation begins a new episode"),
    Setting("page_cache_kib", "KiB", "SQLite's cache of opened pages, per connection"),
    Setting("users_in_memory", "users", "how many people's recall indexes stay in memory"),
    Setting("index_memory_mib", "MiB", "the most that these indexes take together"),
    Setting("working_ttl_s", "seconds", "how long a conversation that nobody speaks in stays in the hot tier"),
    Setting("working_size_mib", "MiB", "the hot tier's file never grows past this"),
    Setting(
        "anchor_in_keyring", "yes or no", "note in the keyring how far the vault came, to tell an older copy of it"
    ),
    Setting("analytics_memory_mib", "MiB", "what analytics may use for one person; nothing is put aside on the disk"),
    Setting("log_recalls", "yes or no", "keep figures of recalls, and questions that found nothing, in the log"),
    Setting("log_keep_days", "days", "older log entries are deleted"),
    Setting("log_rows_max", "entries", "the log never has more"),
    Setting("log_size_max_mib", "MiB", "the log's texts are never more"),
)
ENVIRONMENT: Mapping[str, str] = {"embedder": EMBEDDER_VARIABLE}
"""The environment variable that goes before the file, by the setting's name."""


def current_settings(folder: Path, environment: Mapping[str, str]) -> Sequence[CurrentSetting]:
    """Every setting of the vault in `folder`. Raises InvalidInput, naming file and key, for a file that cannot be used."""
    chosen, defaults, in_file = load_settings(folder), Settings(), _file_of(folder)
    return [
        CurrentSetting(
            known.name,
            _value(chosen, known.name),
            _value(defaults, known.name),
            known.unit,
            known.meaning,
            _source(known.name, in_file, environment),
        )
        for known in SETTINGS
    ]


def checked_name(name: str) -> str:
    """The name of a setting. Raises InvalidInput for a secret, which has no place in a file, and for what is none."""
    names = [known.name for known in SETTINGS]
    if name in names:
        return name
    if any(word in name.lower() for word in SECRET_WORDS):
        raise InvalidInput(
            f"{CONFIG_FILE} holds no secrets and is not sealed; nothing was changed",
            hint="a passphrase is typed, or lies in the file that AICO_PASSPHRASE_FILE names",
            field="name",
        )
    near = difflib.get_close_matches(name, names, n=1)
    raise InvalidInput(
        f"{CONFIG_FILE} has no such setting; nothing was changed",
        hint=f"did you mean {near[0]}?" if near else "`aico config list` shows them all",
        field="name",
    )


def read_value(name: str, text: str) -> Value | dict[str, str | int] | None:
    """A setting's value as a person typed it, for `write_setting`. Raises InvalidInput for what is not of its kind.

    "none" takes Chroma out of the file; a kind of it is a table there.
    """
    default = _value(Settings(), checked_name(name))
    if name == "chroma":
        return None if text == "none" else {"kind": text}
    read: Value | None
    match default:
        case bool():
            wanted, read = "true or false", _YES_OR_NO.get(text.lower())
        case float():
            wanted, read = "a number", _number(float, text)
        case int():
            wanted, read = "a whole number", _number(int, text)
        case _:
            return text
    if read is None:
        raise InvalidInput(f"{name} is {wanted}; nothing was changed", field=name)
    return read


def current_setting(folder: Path, name: str, environment: Mapping[str, str]) -> CurrentSetting:
    """One setting of the vault in `folder`. Raises InvalidInput as `current_settings` and `checked_name`."""
    wanted = checked_name(name)
    return next(found for found in current_settings(folder, environment) if found.name == wanted)


def check_file(folder: Path) -> Path:
    """The path of a `config.toml` that can be used. Raises InvalidInput, or NotFound if there is none."""
    file = folder / CONFIG_FILE
    if not file.exists():
        raise NotFound(f"there is no {file}; every setting has its default", hint="`aico config set` makes one")
    load_settings(folder)
    return file


def _number(kind: type[int] | type[float], text: str) -> int | float | None:
    try:
        return kind(text)
    except ValueError:
        return None


def _value(settings: Settings, name: str) -> Any:  # as the setting's field has it
    found = reduce(getattr, name.split("."), settings)
    if isinstance(found, EmbedderSpec | RerankerSpec):
        return f"{found.kind} {found.model}"
    if isinstance(found, ChromaSpec):
        return found.kind
    return "none" if found is None else found


def _source(name: str, in_file: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    if environment.get(ENVIRONMENT.get(name, "")):
        return "environment"
    *tables, last = name.split(".")
    table = reduce(lambda at, part: at.get(part, {}), tables, in_file)
    return "file" if last in table else "default"


def _file_of(folder: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(read_plain_file(folder / CONFIG_FILE).decode())
    except FileNotFoundError:
        return {}
