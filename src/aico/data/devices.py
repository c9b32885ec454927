"""The devices that share one person's memory, and which of them this one is.

This device's id lies in a file beside vault.json, never in the database: a backup that is restored elsewhere is
another device. It is random and tells nothing.
"""

import platform
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from aico.clock import IdSource, from_us
from aico.data.audit_log import Action, AuditLog
from aico.data.libsql import LibSQLConnection, Row
from aico.data.limits import checked_label, checked_name
from aico.data.row_ids import ID_BYTES, parsed_id
from aico.errors import NotFound, Tampered, storage_error
from aico.files import place_new_file, read_plain_file

DEVICE_FILE = "device"


@dataclass(frozen=True, slots=True)
class Device:
    """One device."""

    id: str
    name: str = field(repr=False)
    device_type: str | None
    platform: str | None
    is_active: bool
    seen_at: datetime | None
    created_at: datetime


class DeviceRepository:
    """The devices of a vault; which come and go is in the audit log. Any thread may use it.

    >>> phone = vault.devices.register("phone", device_type="phone")
    >>> vault.devices.deactivate(phone.id)
    >>> [(device.name, device.is_active) for device in vault.devices.list()]
    [('phone', False)]
    """

    def __init__(self, connection: LibSQLConnection, *, folder: Path, ids: IdSource, audit_log: AuditLog) -> None:
        self._connection, self._file, self._ids = connection, folder / DEVICE_FILE, ids
        self._audit_log = audit_log

    def ensure_this(self) -> Device:
        """This device; it is registered under the machine's name when it is new. Raises Tampered or StorageError.

        >>> vault.devices.ensure_this() == vault.devices.ensure_this()
        True
        """
        device_id = self._own_id()
        name = platform.node().strip() or "this device"
        self._insert(device_id, name, device_type=None, platform=platform.system() or None)
        return self._get(device_id)

    def find_this(self) -> Device | None:
        """This device, None while it is not registered.

        >>> vault.devices.find_this() is None
        True
        """
        if not self._file.exists():
            return None
        row = self._connection.fetch_one("SELECT * FROM devices WHERE id = ?", (self._own_id(),))
        return _device(row) if row else None

    def register(self, name: str, *, device_type: str | None = None, platform: str | None = None) -> Device:
        """Take in another device and return it. Raises InvalidInput.

        >>> vault.devices.register("phone", device_type="phone").is_active
        True
        """
        device_id = self._ids.new_id()
        self._insert(device_id, name, device_type=device_type, platform=platform)
        return self._get(device_id)

    def rename(self, device: str, name: str) -> None:
        """Call a device something else. Raises NotFound or InvalidInput.

        >>> phone = vault.devices.register("phone")
        >>> vault.devices.rename(phone.id, "Mia's phone")
        >>> [device.name for device in vault.devices.list()]
        ["Mia's phone"]
        """
        self._change(device, "name", checked_name(name, field="name"))

    def deactivate(self, device: str) -> None:
        """A device takes part no more; its row stays, so that what came from it can be told. Raises NotFound.

        >>> vault.devices.deactivate(vault.devices.register("phone").id)
        >>> vault.devices.list(active_only=True)
        []
        """
        self._let_take_part(device, False)

    def activate(self, device: str) -> None:
        """A device takes part again. Raises NotFound.

        >>> phone = vault.devices.register("phone")
        >>> vault.devices.deactivate(phone.id)
        >>> vault.devices.activate(phone.id)
        >>> [device.is_active for device in vault.devices.list()]
        [True]
        """
        self._let_take_part(device, True)

    def saw(self, device: str) -> None:
        """Note that a device was heard of just now. Raises NotFound.

        >>> phone = vault.devices.register("phone")
        >>> vault.devices.saw(phone.id)
        """
        self._change(device, "seen_at", self._ids.now_us())

    def list(self, *, active_only: bool = False) -> Sequence[Device]:
        """All devices in the order they came.

        >>> _ = vault.devices.register("phone")
        >>> [device.name for device in vault.devices.list()]
        ['phone']
        """
        rows = self._connection.fetch_all(
            "SELECT * FROM devices WHERE is_active >= ? ORDER BY row_id", (int(active_only),)
        )
        return [_device(row) for row in rows]

    def _insert(self, device_id: bytes, name: str, *, device_type: str | None, platform: str | None) -> None:
        now = self._ids.now_us()
        values = (
            device_id,
            checked_name(name, field="name"),
            checked_label(device_type, field="device_type"),
            checked_label(platform, field="platform"),
            now,
            now,
        )
        with self._connection.transaction():
            added = self._connection.execute(
                "INSERT INTO devices (id, name, device_type, platform, is_active, seen_at, created_at) "
                "VALUES (?, ?, ?, ?, 1, ?, ?) ON CONFLICT (id) DO NOTHING",
                values,
            )
            if added.rowcount:
                self._audit_log.append(Action.DEVICE_ADDED, subject_id=device_id)

    def _let_take_part(self, device: str, active: bool) -> None:
        with self._connection.transaction():
            was_active = self._get(parsed_id(device, what="device")).is_active
            self._change(device, "is_active", int(active))
            if was_active is not active:
                action = Action.DEVICE_ADDED if active else Action.DEVICE_REMOVED
                self._audit_log.append(action, subject_id=bytes.fromhex(device))

    def _change(self, device: str, column: str, value: str | int) -> None:
        device_id = parsed_id(device, what="device")
        changed = self._connection.execute(f"UPDATE devices SET {column} = ? WHERE id = ?", (value, device_id))
        if not changed.rowcount:
            raise NotFound("no device has this id; nothing was changed")

    def _get(self, device_id: bytes) -> Device:
        row = self._connection.fetch_one("SELECT * FROM devices WHERE id = ?", (device_id,))
        if row is None:
            raise NotFound("no device has this id; nothing was changed")
        return _device(row)

    def _own_id(self) -> bytes:
        """The id in this device's file, which is made if missing. Of two processes that make it, one is first."""
        try:
            if not self._file.exists():
                self._make_file()
            text = read_plain_file(self._file).decode("ascii", errors="replace").strip()
        except OSError as exc:
            raise storage_error(exc, self._file, "the device was not registered") from exc
        try:
            return parsed_id(text, what="device")
        except NotFound:
            raise Tampered(
                f"{self._file} does not hold a device's id; nothing was changed",
                hint="move it away: this device is then registered anew",
            ) from None

    def _make_file(self) -> None:
        fresh = self._file.with_name(f"{DEVICE_FILE}.new-{secrets.token_hex(8)}")
        fresh.touch(mode=0o600)
        try:
            fresh.write_text(secrets.token_bytes(ID_BYTES).hex() + "\n", encoding="ascii")
            place_new_file(fresh, self._file)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()


def _device(row: Row) -> Device:
    return Device(
        id=row["id"].hex(),
        name=row["name"],
        device_type=row["device_type"],
        platform=row["platform"],
        is_active=bool(row["is_active"]),
        seen_at=None if row["seen_at"] is None else from_us(row["seen_at"]),
        created_at=from_us(row["created_at"]),
    )
