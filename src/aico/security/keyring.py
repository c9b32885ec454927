"""The operating system's keyring: unlocks a vault without a prompt.

It never holds the root key or the passphrase, only a random secret that opens one keyslot.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from aico.errors import KeyringUnavailable
from aico.security.keys import KeyEncryptionKey

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

T = TypeVar("T")

SERVICE = "aico"
# `keyring` itself recommends backends from priority 1; below are `null`, `fail` and those that write files.
LOWEST_PRIORITY = 1


def store_secret(entry: str, secret: KeyEncryptionKey) -> None:
    """Keep the secret of a keyring slot under the name `entry`. Raises KeyringUnavailable; nothing is stored then."""
    store_note(entry, secret.reveal().hex())


def find_secret(entry: str) -> KeyEncryptionKey | None:
    """The secret of a keyring slot, None if this keyring has none. Raises KeyringUnavailable."""
    found = find_note(entry)
    try:
        return None if found is None else KeyEncryptionKey(bytes.fromhex(found))
    except ValueError:
        raise _unavailable("its entry for this vault was not written by aico") from None


def store_note(entry: str, text: str) -> None:
    """Keep a text under the name `entry`. Raises KeyringUnavailable; nothing is stored then."""
    _asked(lambda backend: backend.set_password(SERVICE, entry, text))


def find_note(entry: str, *, service: str = SERVICE) -> str | None:
    """The text under the name `entry`, None if there is none. Raises KeyringUnavailable."""
    return _asked(lambda backend: backend.get_password(service, entry))


def forget_secret(entry: str) -> None:
    """Take the secret out of the keyring; nothing happens if it was not there. Raises KeyringUnavailable."""
    from keyring.errors import PasswordDeleteError

    def forget(backend: "KeyringBackend") -> None:
        with suppress(PasswordDeleteError):
            backend.delete_password(SERVICE, entry)

    _asked(forget)


def try_out() -> str:
    """The name of the keyring in use, once it was asked for something. Raises KeyringUnavailable."""
    find_note("nothing")
    return _backend().name


def _asked(ask: "Callable[[KeyringBackend], T]") -> T:
    """What the keyring answers. It lets errors of its own, of the bus and of the system through: all say the same to us."""
    backend = _backend()
    try:
        return ask(backend)
    except Exception as exc:
        raise _unavailable(f"it refused: {type(exc).__name__}") from exc


def _backend() -> "KeyringBackend":
    import keyring
    from keyring.errors import KeyringError

    try:
        chosen = keyring.get_keyring()
    except (
        KeyringError,
        RuntimeError,
        ImportError,
        AttributeError,
        ValueError,
    ) as exc:  # a backend named by configuration
        raise _unavailable(f"it does not load: {type(exc).__name__}") from exc
    # Where several are installed, `keyring` chains them and would fall back to one that writes a file.
    for backend in getattr(chosen, "backends", [chosen]):
        if backend.priority >= LOWEST_PRIORITY and not type(backend).__module__.startswith("keyrings.alt"):
            sane: KeyringBackend = backend
            return sane
    raise _unavailable(f"only {chosen.name!r} was found, which keeps nothing or keeps it in the clear")


def _unavailable(why: str) -> KeyringUnavailable:
    return KeyringUnavailable(
        f"the operating system's keyring cannot be used: {why}",
        hint="use the passphrase: at the prompt, or in a file named by AICO_PASSPHRASE_FILE",
    )
