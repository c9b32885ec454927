"""What a vault holds, and whether all is well with it: `aico status` and `aico doctor`."""

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from aico.ai.memory.embedding import Embeddings, EmbeddingStatus
from aico.ai.memory.indexes import Indexes
from aico.ai.memory.receipts import Receipts
from aico.ai.memory.second_look import SecondLook
from aico.anchor import CommitAnchor
from aico.backup import Backups
from aico.data.audit_log import AuditLog
from aico.data.libsql import EncryptedLibSQLConnection, LibSQLConnection
from aico.data.libsql.plugins import Plugins, PluginState
from aico.data.libsql.registry import SchemaRegistry
from aico.errors import AicoError, KeyringUnavailable
from aico.security import keyring, session_unlock
from aico.settings import CONFIG_FILE
from aico.views import Views, ViewStatus

INTERRUPTED_AFTER_S = 24 * 3600
"""What is newer somebody may be just making: a backup, the copy that it reads."""

_COUNTED = ("users", "conversations", "messages", "facts", "erasures")


@dataclass(frozen=True, slots=True)
class Status:
    """A vault at a glance."""

    folder: Path
    format: int
    engine: str
    detects_tampering: bool
    """Whether the engine tells a byte that was changed from outside."""
    keyslots: list[str]
    rotation_unfinished: bool
    """Something may still be sealed under the older keys; `aico keys rotate` goes on."""
    session_left_s: int
    """How long `aico unlock` leaves the vault unlocked from now on; 0 where it does not."""
    rows: dict[str, int]
    size_bytes: int
    embeddings: list[EmbeddingStatus]
    """The chosen embedding model first, then others that vectors are left of."""
    views: list[ViewStatus]
    """How far behind the truth each view of this process is; each reads on before it answers."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined."""

    name: str
    ok: bool | None
    """None where nothing is wrong and nothing is promised either."""
    message: str
    hint: str = ""


def status_of(
    folder: Path,
    *,
    vault_format: int,
    keyslots: Sequence[str],
    rotation_unfinished: bool,
    connection: LibSQLConnection,
    embeddings: list[EmbeddingStatus],
    views: list[ViewStatus],
) -> Status:
    """Counts, keyslots, size on disk, embedding models and views."""
    rows = {table: connection.fetch_all(f"SELECT count(*) FROM {table}")[0][0] for table in _COUNTED}
    size = sum(state.st_size for _, state in _all_in(folder) if stat.S_ISREG(state.st_mode))
    return Status(
        folder,
        vault_format,
        connection.engine,
        connection.detects_tampering,
        list(keyslots),
        rotation_unfinished,
        session_unlock.left_s(folder),
        rows,
        size,
        embeddings,
        views,
    )


def examine(
    folder: Path,
    *,
    keyslots: Sequence[str],
    rotation_unfinished: bool,
    connection: LibSQLConnection,
    plugins: Plugins,
    audit_log: AuditLog,
    views: Views,
    indexes: Indexes,
    anchor: CommitAnchor,
    embeddings: Embeddings,
    second_look: SecondLook,
    receipts: Receipts,
    backups: Backups,
) -> list[Finding]:
    """Every examination there is, in the order of what matters most. Reads the whole database."""
    return [
        _pages(connection),
        _schemas(connection),
        *(_plugin(plugin) for plugin in plugins.list_plugins()),
        _audit_log(audit_log),
        _permissions(folder),
        _leftovers(folder),
        Finding("keyslots", True, f"the vault can be unlocked by: {', '.join(keyslots)}"),
        _rotation(unfinished=rotation_unfinished),
        _backups(backups),
        _keyring(needed="keyring" in keyslots),
        _engine(connection),
        _page_map(connection),
        _anchor(anchor),
        *(_view(view) for view in views.status() if view.name != "embeddings"),
        _snapshots(indexes, connection),
        _embedding(embeddings),
        *([] if second_look.model is None else [_reranker(second_look)]),
        _forgotten(receipts),
    ]


def _engine(connection: LibSQLConnection) -> Finding:
    if connection.detects_tampering:
        return Finding("engine", True, f"{connection.engine}; a changed byte is detected")
    what = "it hides what is stored; a changed byte is not detected and may come back as a wrong memory"
    return Finding("engine", None, f"{connection.engine}: {what}")


def _page_map(connection: LibSQLConnection) -> Finding:
    if connection.engine_name != "sqlite":
        return Finding("page map", None, "this engine has none: an older copy of a page, or of the log, is accepted")
    if isinstance(connection, EncryptedLibSQLConnection) and connection.has_page_map:
        return Finding("page map", True, "an older copy of a page, or of the log, is detected")
    why = "made in format 0, without a page map: an older copy of a page is accepted"
    return Finding(
        "page map", None, f"{why}; `aico backup create`, then `aico restore` into a new folder, gives it one"
    )


def _anchor(anchor: CommitAnchor) -> Finding:
    if anchor.state is not None:
        place, number = anchor.state
        return Finding("commit anchor", True, f"{place} has change {number:,}: an older copy of the folder is detected")
    told = f"none, so an older copy of the whole folder cannot be told from the newest: {anchor.trouble}"
    return Finding("commit anchor", None, f"{told}; AICO_ANCHOR_FILE may name a file outside the folder")


def _forgotten(receipts: Receipts) -> Finding:
    try:
        count, left = receipts.remains_of_all()
    except AicoError as exc:
        return Finding("forgotten", False, str(exc), exc.hint)
    if left:
        where = ", ".join(sorted({remainder.place for remainder in left}))
        return Finding("forgotten", False, f"something that was forgotten is left in: {where}", "forget it again")
    return Finding("forgotten", True, f"{count:,} memories were forgotten; nothing of them is left")


def _view(view: ViewStatus) -> Finding:
    if view.trouble:
        return Finding(view.name, None, f"not used: {view.trouble}")
    return Finding(view.name, True, f"{view.lag} changes behind; it reads on before it answers")


def _snapshots(indexes: Indexes, connection: LibSQLConnection) -> Finding:
    count, wrong = indexes.examine(row["id"] for row in connection.fetch_all("SELECT id FROM users"))
    if wrong:
        what = f"{len(wrong)} snapshots of recall indexes are not used, such as: {wrong[0]}"
        return Finding(
            "snapshots", None, what, "nothing is lost: an index is built anew from the truth when it is asked"
        )
    return Finding("snapshots", True, f"{count:,} snapshots of recall indexes open and tell of this truth")


def _pages(connection: LibSQLConnection) -> Finding:
    try:
        connection.verify()
    except AicoError as exc:
        return Finding("pages", False, str(exc), exc.hint)
    if not connection.detects_tampering:
        return Finding("pages", True, "the structure is sound; whether values were changed from outside cannot be told")
    return Finding("pages", True, "every page opens under the vault's keys and the structure is sound")


def _schemas(connection: LibSQLConnection) -> Finding:
    try:
        schemas = SchemaRegistry.check_core_schemas(connection)
    except AicoError as exc:
        return Finding("schemas", False, str(exc), exc.hint)
    here = SchemaRegistry.current_versions(connection)
    behind = [schema.name for schema in schemas if here.get(schema.name, 0) < schema.newest]
    if behind:
        return Finding("schemas", False, f"not up to date: {', '.join(behind)}", "open the vault again")
    versions = ", ".join(f"{schema.name} {schema.newest}" for schema in schemas)
    return Finding("schemas", True, f"every step is as this release made it: {versions}")


def _plugin(plugin: PluginState) -> Finding:
    name, here = f"plugin {plugin.name}", plugin.version
    if plugin.problem:
        return Finding(name, None, f"not used: {plugin.problem}")
    if here < plugin.newest:
        what = "not installed in this vault" if here == 0 else f"at version {here}, its package needs {plugin.newest}"
        return Finding(name, None, what, f"aico db migrate {plugin.name}")
    if here > plugin.newest:
        return Finding(
            name, False, f"at version {here}, its package knows only {plugin.newest}", "update the plugin's package"
        )
    return Finding(name, True, f"at version {here}")


def _audit_log(audit_log: AuditLog) -> Finding:
    try:
        verdict = audit_log.verify()
    except AicoError as exc:
        return Finding("audit log", False, str(exc), exc.hint)
    if verdict.intact:
        return Finding(
            "audit log",
            True,
            f"{verdict.head.count:,} entries stand as written; only a head noted elsewhere proves the end",
        )
    place = "" if verdict.broken_at is None else f"entry {verdict.broken_at:,}: "
    return Finding(
        "audit log", False, f"{place}{verdict.reason}", "somebody changed it with the vault's keys; compare a backup"
    )


def _permissions(folder: Path) -> Finding:
    ours = {path: state for path, state in _all_in(folder) if path.name != CONFIG_FILE}  # by hand, holds no secret
    loose = [path for path, state in ours.items() if state.st_mode & 0o077 or state.st_uid != os.geteuid()]
    if loose:
        return Finding(
            "permissions",
            False,
            f"others on this machine may reach {len(loose)} files, such as {loose[0].name}; they hold no plain text",
            "chmod -R go= on the vault's folder",
        )
    return Finding("permissions", True, "folder and files are yours alone")


def _all_in(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The folder and all in it as they are now; what others delete meanwhile is left out."""
    inside = (Path(place, name) for place, folders, files in os.walk(folder) for name in (*folders, *files))
    for path in chain([folder], inside):
        with suppress(FileNotFoundError):
            yield path, path.lstat()


def _leftovers(folder: Path) -> Finding:
    before = time.time() - INTERRUPTED_AFTER_S
    left = [
        path
        for path, state in _all_in(folder)
        if stat.S_ISREG(state.st_mode) and state.st_mtime < before and ".new-" in str(path.relative_to(folder))
    ]
    if left:
        return Finding(
            "leftovers",
            False,
            f"{len(left)} sealed files of an interrupted step, such as {left[0].name}; they are not used",
            "delete them",
        )
    return Finding("leftovers", True, "nothing of an interrupted step is left")


def _embedding(embeddings: Embeddings) -> Finding:
    """The model is asked: a process that has just begun knows nothing of it yet."""
    chosen = next((status for status in embeddings.status() if status.chosen), None)
    if chosen is None:
        return Finding("embeddings", None, "no embedding model is chosen; memories are found by their words")
    try:
        embeddings.try_out()
        problem = embeddings.problem
    except AicoError as exc:
        problem = str(exc)
    if problem is not None:
        return Finding(
            "embeddings",
            False,
            f"{problem}; {chosen.pending:,} memories are found by their words alone",
            "mend what it names, or choose another model; it is tried again by itself",
        )
    return Finding(
        "embeddings", True, f"{chosen.model}: {chosen.vectors:,} vectors, {chosen.pending:,} memories wait for theirs"
    )


def _rotation(*, unfinished: bool) -> Finding:
    if unfinished:
        message = "a rotation is unfinished: something may still be sealed under the older keys; nothing is lost"
        return Finding("rotation", False, message, "`aico keys rotate` goes on where it stopped")
    return Finding("rotation", True, "everything in the folder is sealed under the newest keys")


def _backups(backups: Backups) -> Finding:
    """By what each says of itself: their pages are read by `aico backup verify`."""
    try:
        found = backups.list()
    except AicoError as exc:
        return Finding("backups", False, str(exc), exc.hint)
    if not found:
        return Finding("backups", None, "none that opens in the vault's own folder; it does not look elsewhere")
    broken = [info for info in found if info.missing is not None]
    if broken:
        what = f"{len(broken)} of {len(found)} need a backup that is missing, such as {broken[-1].path.name}"
        if found[-1] is broken[-1]:
            return Finding("backups", False, what, "`aico backup create` makes one that stands alone")
        return Finding("backups", None, what, "the newest stands; `aico backup list` names them")
    return Finding(
        "backups", True, f"{len(found)} in the vault's own folder; the newest and all it builds on are there"
    )


def _reranker(second_look: SecondLook) -> Finding:
    try:
        second_look.try_out()
    except AicoError as exc:
        return Finding("reranker", False, str(exc), exc.hint)
    return Finding("reranker", True, f"{second_look.model} answers")


def _keyring(*, needed: bool) -> Finding:
    try:
        return Finding("keyring", True, f"{keyring.try_out()} is available")
    except KeyringUnavailable as exc:
        if needed:
            return Finding("keyring", False, str(exc), exc.hint)
        return Finding("keyring", None, f"not used by this vault; {exc}")
