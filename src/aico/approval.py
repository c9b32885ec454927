"""Settings that let memories out, or guard them less, hold once somebody with the keys has said yes to them.

`config.toml` is plain text: it is read before there is a key. Whoever can write it, a cloud folder that hands it back
changed for one, could name a server of theirs as the embedding model and be sent every text. So what it says beyond the
defaults in this is compared with the last yes, an entry of the audit log, before anything is sent or left anywhere.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from enum import Enum

from aico.data.audit_log import Action, AuditLog
from aico.errors import AccessDenied
from aico.settings import EmbedderSpec, KdfCost, RerankerSpec, Settings


def weakened_by(settings: Settings) -> list[str]:
    """What these settings let out or guard less than the defaults do, each in a sentence; empty for nothing.

    Nothing in a sentence moves a terminal's cursor or turns its text around: whoever wrote the file chose the names in it.
    """
    return ["".join(letter if letter.isprintable() else "�" for letter in said) for said, _ in _weakened(settings)]


def _weakened(settings: Settings) -> Iterator[tuple[str, object]]:
    """Each sentence, with all that the setting says: the variable that holds a server's key too."""
    embedder, reranker, chroma, cost = settings.embedder, settings.reranker, settings.chroma, settings.kdf
    if isinstance(embedder, EmbedderSpec) and embedder.kind != "fastembed":
        place = f"{embedder.url or 'this machine'} ({embedder.kind})"
        yield f"texts and questions are sent to the embedding model {embedder.model} at {place}", asdict(embedder)
    if isinstance(reranker, RerankerSpec) and reranker.url is not None:
        yield (
            f"questions and the best hits are sent to the reranker {reranker.model} at {reranker.url}",
            asdict(reranker),
        )
    if chroma is not None and chroma.kind == "server":
        yield f"vectors are kept by the Chroma server at {chroma.url}, which can read them", asdict(chroma)
    if chroma is not None and chroma.kind == "local":
        yield "vectors lie readable on this disk, in a Chroma", asdict(chroma)
    if _work(cost) < _work(KdfCost()):
        price = f"{cost.passes} times {cost.memory_kib} KiB"
        yield f"a guess at a new passphrase costs {price}, less than the default", asdict(cost)
    if not settings.anchor_in_keyring:
        yield "the keyring does not note how far the vault came, so an older copy of it may not be told", None


class Consent(Enum):
    """Whether somebody with the keys wants a vault's settings as they are."""

    NOT_NEEDED = "not needed"
    """They are those of the program itself."""
    ASKED_FOR = "asked for"
    """They come from a file, which anybody may have written."""
    GIVEN = "given"
    """So they do, but whoever opens the vault makes it just now, or says yes."""


class Approval:
    """The yes to a vault's settings. The last one counts: an older file put back needs another."""

    def __init__(self, audit_log: AuditLog) -> None:
        self._audit_log = audit_log

    def settle(self, settings: Settings, consent: Consent) -> None:
        """Note a yes that is given. Raise AccessDenied where one is asked for and the last was not to exactly this."""
        weakened = weakened_by(settings)
        if not weakened or consent is Consent.NOT_NEEDED or self._last() == _digest(settings):
            return
        if consent is Consent.ASKED_FOR:
            raise AccessDenied(
                f"config.toml has settings that nobody with the keys has said yes to: {'; '.join(weakened)}. "
                "The vault was not opened, and nothing was sent",
                hint="if you want that, `aico config approve`; else take it out of config.toml",
            )
        self._audit_log.append(Action.SETTINGS_APPROVED, subject_id=_digest(settings))

    def _last(self) -> bytes | None:
        entry = self._audit_log.last(Action.SETTINGS_APPROVED)
        return None if entry is None or entry.subject_id is None else bytes.fromhex(entry.subject_id)


def _work(cost: KdfCost) -> int:
    return cost.memory_kib * cost.passes


def _digest(settings: Settings) -> bytes:
    said = json.dumps(list(_weakened(settings)), sort_keys=True)
    return hashlib.blake2b(said.encode(), digest_size=32).digest()
