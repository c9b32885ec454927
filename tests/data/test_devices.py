"""Devices: this one is registered once, and its id lies outside the database."""

import pytest

from aico.errors import InvalidInput, NotFound, Tampered
from aico.testing import FixedClock, temporary_vault


@pytest.fixture
def vault():
    with temporary_vault(clock=FixedClock()) as vault:
        yield vault


def test_this_device_is_registered_once_and_keeps_its_id(vault):
    assert vault.devices.find_this() is None
    this = vault.devices.ensure_this()
    assert vault.devices.ensure_this() == this == vault.devices.find_this()
    assert [device.id for device in vault.devices.list()] == [this.id]
    assert (vault.folder / "device").stat().st_mode & 0o777 == 0o600


def test_without_its_file_it_is_another_device(vault):
    this = vault.devices.ensure_this()
    (vault.folder / "device").unlink()
    assert vault.devices.ensure_this().id != this.id


def test_a_ruined_file_is_refused_by_name(vault):
    (vault.folder / "device").write_text("garbage")
    with pytest.raises(Tampered, match="device"):
        vault.devices.ensure_this()


def test_the_file_passes_doctor_and_audit(vault):
    vault.devices.ensure_this()
    assert not [finding for finding in vault.doctor() if finding.ok is False]


def test_a_device_is_renamed_deactivated_and_seen(vault):
    phone = vault.devices.register("phone", device_type="phone", platform="Android")
    vault.devices.rename(phone.id, "my phone")
    vault.devices.deactivate(phone.id)
    vault.devices.saw(phone.id)
    [found] = vault.devices.list()
    assert (found.name, found.is_active, found.device_type) == ("my phone", False, "phone")
    assert found.seen_at is not None
    assert vault.devices.list(active_only=True) == []
    vault.devices.activate(phone.id)
    assert len(vault.devices.list(active_only=True)) == 1


def test_an_unknown_device_and_a_name_that_is_none_are_refused(vault):
    phone = vault.devices.register("phone")
    for call in (vault.devices.deactivate, vault.devices.saw, vault.devices.activate):
        with pytest.raises(NotFound):
            call("0" * 32)
    with pytest.raises(InvalidInput):
        vault.devices.rename(phone.id, " ")
    assert vault.devices.list()[0].name == "phone"


def test_the_audit_log_says_which_devices_came_and_went(vault):
    this, phone = vault.devices.ensure_this(), vault.devices.register("phone")
    vault.devices.ensure_this()
    for change in (vault.devices.deactivate, vault.devices.deactivate, vault.devices.activate):
        change(phone.id)
    told = [(entry.action, entry.subject_id) for entry in vault.audit_log.entries()]
    assert told == [
        ("device added", this.id),
        ("device added", phone.id),
        ("device removed", phone.id),
        ("device added", phone.id),
    ]
    assert vault.audit_log.verify().intact
