"""Settings that let memories out, or guard them less, hold once somebody with the keys has said yes to them.

`config.toml` is plain text: it is read before there is a key. Whoever can write it, a cloud folder that hands it back
changed for one, could name a server of theirs as the embedding model and be sent every text. So what it says beyond the
defaults in this is compared with the last yes, an entry of the audit log, before anything is sent or left anywhere.
"""

import hashlib
from enum import Enum

from aico.data.audit_log import Action, AuditLog
from aico.errors import AccessDenied
from aico.settings import ChromaSpec, EmbedderSpec, KdfCost, RerankerSpec, Settings


def weakened_by(settings: Settings) -> list[str]:
    """What these settings let out or guard less than the defaults do, each in a sentence; empty for nothing."""
    found = []
    match settings.embedder:
        case EmbedderSpec(kind=kind, model=model, url=url) if kind != "fastembed":
            found.append(
                f"texts and questions are sent to the embedding model {model} at {url or 'this machine'} ({kind})"
            )
    match settings.reranker:
        case RerankerSpec(model=model, url=str(url)):
            found.append(f"questions and the best hits are sent to the reranker {model} at {url}")
    match settings.chroma:
        case ChromaSpec(kind="server", url=url):
            found.append(f"vectors are kept by the Chroma server at {url}, which can read them")
        case ChromaSpec(kind="local"):
            found.append("vectors lie readable on this disk, in a Chroma")
    if _work(settings.kdf) < _work(KdfCost()):
        cost = settings.kdf
        found.append(
            f"a guess at a new passphrase costs {cost.passes} times {cost.memory_kib} KiB, less than the default"
        )
    if not settings.anchor_in_keyring:
        found.append("the keyring does not note how far the vault came, so an older copy of it may not be told")
    return found


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
        if not weakened or consent is Consent.NOT_NEEDED or self._last() == _digest(weakened):
            return
        if consent is Consent.ASKED_FOR:
            raise AccessDenied(
                f"config.toml has settings that nobody with the keys has said yes to: {'; '.join(weakened)}. "
                "The vault was not opened, and nothing was sent",
                hint="if you want that, `aico config approve`; else take it out of config.toml",
            )
        self._audit_log.append(Action.SETTINGS_APPROVED, subject_id=_digest(weakened))

    def _last(self) -> bytes | None:
        entry = self._audit_log.last(Action.SETTINGS_APPROVED)
        return None if entry is None or entry.subject_id is None else bytes.fromhex(entry.subject_id)


def _work(cost: KdfCost) -> int:
    return cost.memory_kib * cost.passes


def _digest(weakened: list[str]) -> bytes:
    return hashlib.blake2b("\n".join(weakened).encode(), digest_size=32).digest()
