"""Every number a person may tune, each with its unit, default and reason; the only reader of config files and environment.

Defaults < `config.toml` < environment < arguments, merged once when a vault is opened.
"""

import os
import re
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from aico.clock import Clock, SystemClock
from aico.errors import InvalidInput
from aico.files import NotAPlainFile, read_plain_file

if TYPE_CHECKING:
    from aico.ai.embedding import Embedder
    from aico.ai.reranking import Reranker

HOME_VARIABLE = "AICO_HOME"
PASSPHRASE_FILE_VARIABLE = "AICO_PASSPHRASE_FILE"  # noqa: S105  # a name, no passphrase
ANCHOR_FILE_VARIABLE = "AICO_ANCHOR_FILE"
EMBEDDER_VARIABLE = "AICO_EMBEDDER"
CONFIG_FILE = "config.toml"
DEFAULT_MODEL = "multilingual-e5-small"
EMBEDDER_NAMES = ("auto", "none", DEFAULT_MODEL)

_MOST = 1 << 31
_ADDRESS = re.compile(r"https?://[^\s/?#@]+(/[^\s?#@]*)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class KdfCost:
    """What one guess at a passphrase costs (Argon2id, RFC 9106).

    The default is about half a second and 256 MiB on two cores: far above RFC 9106's second
    recommended option (64 MiB), far below what a phone cannot spare. The cost is kept in the keyslot,
    so it can rise later without touching older vaults.
    """

    memory_kib: int = 256 * 1024
    passes: int = 3
    lanes: int = 4


EmbedderKind = Literal["ollama", "openai", "fastembed"]
_NEEDS_ADDRESS = ("openai",)
_TAKES_ADDRESS = ("ollama", "openai")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderSpec:
    """An embedding model that something else runs: a server at `url`, or `fastembed`, by the model's name there."""

    kind: EmbedderKind
    model: str
    url: str | None = None
    """The server's address. `ollama` has http://localhost:11434 where none is given, `openai` needs one."""
    api_key_env: str | None = None
    """The environment variable that holds the server's key: a key itself is never written down."""
    window: int = 512
    """How many tokens of a text the model takes in; longer texts are split before."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(EmbedderKind):
            raise _bad_embedder("kind", f"is one of {', '.join(get_args(EmbedderKind))}")
        if not self.model.strip():
            raise _bad_embedder("model", "is the name of a model")
        if self.url is None and self.kind in _NEEDS_ADDRESS:
            raise _bad_embedder("url", f"is needed for a model of the kind {self.kind}, such as https://host/v1")
        if self.url is not None and self.kind not in _TAKES_ADDRESS:
            raise _bad_embedder("url", f"means nothing for a model of the kind {self.kind}")
        if self.url is not None and not _ADDRESS.fullmatch(self.url):
            raise _bad_embedder("url", "begins with http:// or https:// and holds no password")
        if self.api_key_env is not None and not _VARIABLE.fullmatch(self.api_key_env):
            raise _bad_embedder("api_key_env", "is the name of an environment variable, not a key")
        if not 16 <= self.window < _MOST:
            raise _bad_embedder("window", "is a number of tokens from 16 on")


ChromaKind = Literal["memory", "server", "local"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChromaSpec:
    """A view of the vectors in Chroma: in the process's memory, on a server at `url`, or in the vault's folder.

    Whoever runs the server, or reads the disk, sees the vectors, how many there are and which belong together; texts
    and everything else are sealed before they go there.
    """

    kind: ChromaKind = "memory"
    url: str | None = None
    """The server's address, such as http://localhost:8000."""
    database: str | None = None
    """The server's database for this vault alone; its default where none is given."""
    token_env: str | None = None
    """The environment variable that holds the server's token: a key itself is never written down."""
    allow_plaintext_index: bool = False
    """Must be set for `local`: it leaves vectors on the disk that are not sealed."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(ChromaKind):
            raise _bad_chroma("kind", f"is one of {', '.join(get_args(ChromaKind))}")
        if (self.url is not None) is not (self.kind == "server"):
            raise _bad_chroma("url", "is needed for a server, and for nothing else")
        if self.url is not None and not _ADDRESS.fullmatch(self.url):
            raise _bad_chroma("url", "begins with http:// or https:// and holds no password")
        if self.token_env is not None and not _VARIABLE.fullmatch(self.token_env):
            raise _bad_chroma("token_env", "is the name of an environment variable, not a token")
        if self.kind == "local" and not self.allow_plaintext_index:
            raise _bad_chroma("allow_plaintext_index", "must be set: a Chroma on this disk keeps readable vectors")

    def headers(self) -> dict[str, str]:
        """What a server wants to be told of who asks."""
        token = None if self.token_env is None else os.environ.get(self.token_env)
        return {} if token is None else {"Authorization": f"Bearer {token}"}


RerankerKind = Literal["onnx", "http"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerSpec:
    """A model that reads the best hits once more together with the question: in a folder here, or at an address."""

    kind: RerankerKind
    model: str
    """For `onnx` the folder that holds `model.onnx` and `tokenizer.json`, for `http` the model's name there."""
    url: str | None = None
    """For `http`: where `/rerank` begins, such as http://localhost:8080/v1."""
    api_key_env: str | None = None
    """The environment variable that holds the server's key: a key itself is never written down."""
    window: int = 512
    """How many tokens of a question and a text together an `onnx` model reads."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(RerankerKind):
            raise _bad_reranker("kind", f"is one of {', '.join(get_args(RerankerKind))}")
        if not self.model.strip():
            raise _bad_reranker("model", "is the folder or the name of a model")
        if self.kind == "http" and (self.url is None or not _ADDRESS.fullmatch(self.url)):
            raise _bad_reranker("url", "begins with http:// or https:// and holds no password")
        if self.kind != "http" and (self.url is not None or self.api_key_env is not None):
            raise _bad_reranker("url", f"and a key mean nothing for a model of the kind {self.kind}")
        if self.api_key_env is not None and not _VARIABLE.fullmatch(self.api_key_env):
            raise _bad_reranker("api_key_env", "is the name of an environment variable, not a key")
        if not 16 <= self.window < _MOST:
            raise _bad_reranker("window", "is a number of tokens from 16 on")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one vault behaves. None of it changes what is stored, except `kdf` for new keyslots."""

    kdf: KdfCost = field(default_factory=KdfCost)
    engine: Literal["sqlite", "libsql"] = "sqlite"
    """What a vault that is made keeps its database with; one that is there has its own. "libsql" needs the extra `libsql`,
    hides what is stored and does not notice when it is changed from outside (docs/decisions/0031)."""
    clock: Clock = field(default_factory=SystemClock)
    embedder: "Embedder | EmbedderSpec | str | None" = "auto"
    """The embedding model. "auto" is the default model where its weights are installed; "none" or None finds memories by
    their words alone; else the default model's name, what describes another, or an embedder of one's own."""
    chroma: ChromaSpec | None = None
    """Keep the vectors in Chroma as well; needs the extra `chroma`. Recall gives the same answers without."""
    reranker: "Reranker | RerankerSpec | None" = None
    """What reads the best hits once more together with the question; none unless it is named, since it costs a model's
    run for each hit."""
    reranker_depth: int = 50
    """How many of the best hits a reranker reads: behind the fiftieth, recall has one question in thirty left to find."""
    busy_wait_s: float = 30.0
    """How long a write waits for its turn before `Busy`: longer than any import batch or checkpoint takes."""
    episode_gap_s: int = 3 * 3600
    """A longer pause than this in a conversation begins a new episode, a run of messages that belong together."""
    page_cache_kib: int = 16 * 1024
    """SQLite's cache of opened pages, per connection. 16 MiB hold the working set of 100k messages."""
    users_in_memory: int = 32
    """How many people's recall indexes stay in memory; the least recently used is dropped and rebuilt when asked."""
    index_memory_mib: int = 1024
    """Nor do these indexes take more than this together, but for the one in use: 100,000 messages take some 150 MiB."""
    log_keep_days: int = 30
    """Older log entries are deleted: a month is as long as somebody remembers what they were doing when it went wrong."""
    log_rows_max: int = 1_000_000
    """The log never has more entries than this, whatever their age."""
    log_size_max_mib: int = 256
    """Nor texts of more than this: a program that logs in a loop must not fill the disk."""

    @property
    def pin_cost(self) -> KdfCost:
        """What one guess at a PIN costs: as a passphrase's, with 64 MiB at most, since a login waits for it each time.

        >>> aico.Settings(kdf=aico.KdfCost(memory_kib=1024 * 1024)).pin_cost.memory_kib
        65536
        """
        return replace(self.kdf, memory_kib=min(self.kdf.memory_kib, 64 * 1024))

    anchor_in_keyring: bool = True
    """Whether the operating system's keyring notes how far the vault has come, so that an older copy of it is told."""
    working_ttl_s: float = 24 * 3600
    """How long a conversation that nobody speaks in or asks for stays in the hot tier."""
    working_size_mib: int = 64
    """The hot tier's file never grows past this; when it is full it is emptied. 64 MiB hold some 100k short turns."""
    analytics_memory_mib: int = 1024
    """What DuckDB may use for one person: a million messages take about a tenth. Nothing is ever put aside on the disk."""
    log_recalls: bool = True
    """Whether figures of each recall, and the words of a question that found nothing, are kept in the vault's log."""

    def __post_init__(self) -> None:
        if self.engine not in ("sqlite", "libsql"):
            raise InvalidInput("the setting engine is sqlite or libsql; the vault was not touched", field="engine")
        for name, least in (
            ("busy_wait_s", 0),
            ("episode_gap_s", 0),
            ("page_cache_kib", 64),
            ("users_in_memory", 1),
            ("index_memory_mib", 1),
            ("reranker_depth", 1),
            ("log_keep_days", 1),
            ("log_rows_max", 1),
            ("log_size_max_mib", 1),
            ("working_ttl_s", 0),
            ("working_size_mib", 1),
            ("analytics_memory_mib", 64),
        ):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not least <= value < _MOST:
                raise InvalidInput(
                    f"the setting {name} is a number from {least} on; the vault was not touched", field=name
                )
        if isinstance(self.embedder, str) and self.embedder not in EMBEDDER_NAMES:
            raise _bad_embedder("embedder", f"is one of {', '.join(EMBEDDER_NAMES)}, or a table [embedder]")
        if isinstance(self.reranker, str):
            raise _bad_reranker(
                "reranker", "is a RerankerSpec or a reranker of one's own; in the file a table [reranker]"
            )


class _KdfTable(msgspec.Struct, forbid_unknown_fields=True):
    memory_kib: int = KdfCost().memory_kib
    passes: int = KdfCost().passes
    lanes: int = KdfCost().lanes


class _EmbedderTable(msgspec.Struct, forbid_unknown_fields=True):
    kind: EmbedderKind
    model: str
    url: str | None = None
    api_key_env: str | None = None
    window: int = 512


class _ChromaTable(msgspec.Struct, forbid_unknown_fields=True):
    kind: ChromaKind = "memory"
    url: str | None = None
    database: str | None = None
    token_env: str | None = None
    allow_plaintext_index: bool = False


class _RerankerTable(msgspec.Struct, forbid_unknown_fields=True):
    kind: RerankerKind
    model: str
    url: str | None = None
    api_key_env: str | None = None
    window: int = 512


class _ConfigFile(msgspec.Struct, forbid_unknown_fields=True):
    engine: Literal["sqlite", "libsql"] | None = None
    kdf: _KdfTable | None = None
    embedder: _EmbedderTable | str | None = None
    chroma: _ChromaTable | None = None
    reranker: _RerankerTable | Literal["none"] | None = None
    reranker_depth: int | None = None
    busy_wait_s: float | None = None
    episode_gap_s: int | None = None
    page_cache_kib: int | None = None
    users_in_memory: int | None = None
    index_memory_mib: int | None = None
    log_keep_days: int | None = None
    log_rows_max: int | None = None
    log_size_max_mib: int | None = None
    working_ttl_s: float | None = None
    working_size_mib: int | None = None
    analytics_memory_mib: int | None = None
    log_recalls: bool | None = None
    anchor_in_keyring: bool | None = None


def vault_folder(path: Path | str | None) -> Path:
    """The vault's folder: `path`, else AICO_HOME, else ~/.aico; absolute, `~` expanded, not yet created."""
    chosen = path if path is not None else os.environ.get(HOME_VARIABLE) or "~/.aico"
    try:
        if not str(chosen) or "\0" in str(chosen):
            raise InvalidInput("the vault's folder has no usable name; nothing was changed", field="path")
        return Path(chosen).expanduser().absolute()
    except (RuntimeError, TypeError) as exc:  # a user's home that is not there; something that is no path
        raise InvalidInput(f"the vault's folder cannot be found: {exc}; nothing was changed", field="path") from exc


def models_folder() -> Path:
    """Where model files are kept for all vaults: in XDG_CACHE_HOME, else ~/.cache; not yet created."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return (cache if cache.is_absolute() else Path("~/.cache").expanduser()) / "aico" / "models"


def load_settings(folder: Path) -> Settings:
    """The settings of the vault in `folder`: the defaults, changed by its `config.toml` and then by the environment.

    Raises InvalidInput, naming file and field, when the file cannot be used.
    """
    file = folder / CONFIG_FILE
    try:
        chosen = parse_settings(read_plain_file(file).decode())
    except FileNotFoundError:
        chosen = Settings()
    except NotAPlainFile:
        raise InvalidInput(f"{file} is no file; nothing was changed", hint="move it away to use the defaults") from None
    except (InvalidInput, UnicodeDecodeError) as exc:
        raise InvalidInput(
            f"{file} cannot be used: {exc}",
            hint="correct the line, or move the file away to use the defaults",
            field=exc.field if isinstance(exc, InvalidInput) else "",
        ) from exc
    named = os.environ.get(EMBEDDER_VARIABLE)
    return replace(chosen, embedder=named) if named else chosen


def parse_settings(text: str) -> Settings:
    """The settings that the text of a `config.toml` stands for. Raises InvalidInput."""
    try:
        found = msgspec.convert(tomllib.loads(text), _ConfigFile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as exc:
        raise InvalidInput(f"{exc}; the vault was not touched") from exc
    except RecursionError:
        raise InvalidInput("it is nested too deeply; the vault was not touched") from None
    given: dict[str, Any] = {
        name: value for name in _ConfigFile.__struct_fields__ if (value := getattr(found, name)) is not None
    }
    if found.kdf is not None:
        given["kdf"] = KdfCost(**msgspec.structs.asdict(found.kdf))
    if isinstance(found.embedder, _EmbedderTable):
        given["embedder"] = EmbedderSpec(**msgspec.structs.asdict(found.embedder))
    if found.chroma is not None:
        given["chroma"] = ChromaSpec(**msgspec.structs.asdict(found.chroma))
    if found.reranker == "none":
        given["reranker"] = None
    elif found.reranker is not None:
        given["reranker"] = RerankerSpec(**msgspec.structs.asdict(found.reranker))
    return replace(Settings(), **given)


def passphrase_file() -> Path | None:
    """The file named by AICO_PASSPHRASE_FILE, for machines without a keyring or a person at the prompt."""
    named = os.environ.get(PASSPHRASE_FILE_VARIABLE)
    return Path(named).expanduser() if named else None


def anchor_file() -> Path | None:
    """The file named by AICO_ANCHOR_FILE, outside of every vault, for machines without a keyring."""
    named = os.environ.get(ANCHOR_FILE_VARIABLE)
    return Path(named).expanduser().absolute() if named else None


def _bad_chroma(name: str, problem: str) -> InvalidInput:
    return InvalidInput(f"Chroma's setting {name} {problem}; the vault was not touched", field=name)


def _bad_embedder(name: str, problem: str) -> InvalidInput:
    return InvalidInput(f"the embedding model's setting {name} {problem}; the vault was not touched", field=name)


def _bad_reranker(name: str, problem: str) -> InvalidInput:
    return InvalidInput(f"the reranker's setting {name} {problem}; the vault was not touched", field=name)
