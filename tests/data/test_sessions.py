"""Sessions end when they should, and no token comes back from the dead."""

import base64
from datetime import timedelta

import pytest

import aico
from aico.errors import AccessDenied, InvalidInput, NotFound
from aico.testing import PASSPHRASE, FixedClock, cheap_settings, temporary_vault

HOUR = timedelta(hours=1)


@pytest.fixture
def clock():
    return FixedClock()


@pytest.fixture
def vault(clock):
    with temporary_vault(clock=clock) as vault:
        yield vault


@pytest.fixture
def mia(vault):
    return vault.users.create_user("mia").id


def is_dead(vault, token: str) -> bool:
    try:
        vault.sessions.verify_session(token)
    except AccessDenied:
        return True
    return False


def test_a_token_is_32_random_bytes_shown_once_and_stored_only_as_a_hash(vault, mia):
    tokens = [vault.sessions.create_session(mia).token for _ in range(5)]
    raw = [base64.urlsafe_b64decode(token + "=") for token in tokens]
    assert {len(token) for token in raw} == {32}
    assert len(set(raw)) == 5
    for row in vault.connection.fetch_all("SELECT * FROM auth_sessions"):
        assert not any(value in raw or value in tokens for value in row)
    assert not any(token in repr(vault.sessions.create_session(mia)) for token in tokens)


def test_no_token_shows_in_a_repr(vault, mia):
    made = vault.sessions.create_session(mia)
    assert made.token not in repr(made)


def test_a_session_lives_until_its_end_and_not_a_microsecond_longer(vault, mia, clock):
    made = vault.sessions.create_session(mia, ttl=HOUR)
    assert vault.sessions.verify_session(made.token) == made.session
    clock.move(HOUR - timedelta(microseconds=1))
    assert not is_dead(vault, made.token)
    clock.move(timedelta(microseconds=1))
    assert is_dead(vault, made.token)


def test_a_clock_set_back_does_not_wake_a_session_that_was_found_expired(vault, mia, clock):
    token = vault.sessions.create_session(mia, ttl=HOUR).token
    clock.move(HOUR)
    assert is_dead(vault, token)
    clock.move(-HOUR)
    assert is_dead(vault, token)


def test_a_clock_set_back_before_its_beginning_does_not_lengthen_a_session(vault, mia, clock):
    token = vault.sessions.create_session(mia, ttl=HOUR).token
    clock.move(timedelta(days=-9))
    end = vault.sessions.refresh_session(token, ttl=HOUR).session.expires_at
    clock.move(timedelta(days=9))
    assert end == vault.sessions.create_session(mia, ttl=HOUR).session.expires_at


def test_a_revoked_token_stays_revoked_also_after_a_restart(tmp_path):
    folder = tmp_path / "vault"
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        user_id = vault.users.create_user("mia").id
        revoked, kept = (vault.sessions.create_session(user_id) for _ in range(2))
        vault.sessions.revoke_session(revoked.session.id)
        vault.sessions.revoke_session(revoked.session.id)
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        assert is_dead(vault, revoked.token)
        assert vault.sessions.verify_session(kept.token) == kept.session
        assert vault.sessions.revoke_all_user_sessions(user_id) == 1
        assert is_dead(vault, kept.token)


def test_refreshing_gives_a_new_token_and_ends_the_old_one(vault, mia, clock):
    old = vault.sessions.create_session(mia, ttl=HOUR)
    clock.move(HOUR / 2)
    new = vault.sessions.refresh_session(old.token, ttl=HOUR)
    assert new.session.id == old.session.id
    assert new.session.expires_at == old.session.expires_at + HOUR / 2
    assert is_dead(vault, old.token)
    with pytest.raises(AccessDenied):
        vault.sessions.refresh_session(old.token)
    assert not is_dead(vault, new.token)


def test_no_session_lives_longer_than_30_days_however_often_it_is_refreshed(vault, mia, clock):
    token = vault.sessions.create_session(mia, ttl=timedelta(days=30)).token
    for _ in range(29):
        clock.move(timedelta(days=1))
        token = vault.sessions.refresh_session(token, ttl=timedelta(days=30)).token
    clock.move(timedelta(days=1))
    assert is_dead(vault, token)


def test_deactivating_ends_sessions_for_good(vault, mia):
    token = vault.sessions.create_session(mia).token
    vault.users.deactivate(mia)
    assert is_dead(vault, token)
    with pytest.raises(AccessDenied):
        vault.sessions.create_session(mia)
    vault.users.activate(mia)
    assert is_dead(vault, token)


@pytest.mark.parametrize(
    "token", ["", "x", "é" * 43, "A" * 43, "A" * 44, "A" * 10**6, None, 7, b"A" * 43, "\ud800" * 43]
)
def test_what_is_no_token_is_refused_like_any_other(vault, mia, token):
    vault.sessions.create_session(mia)
    assert is_dead(vault, token)
    vault.sessions.revoke_token(token)


def test_another_spelling_of_a_token_is_not_the_token(vault, mia):
    token = vault.sessions.create_session(mia).token
    for other in (token + "=", token + "\n", " " + token, token.swapcase(), token[:-1] + chr(ord(token[-1]) ^ 1)):
        assert other == token or is_dead(vault, other)


def test_sessions_of_one_person_are_not_anothers(vault, mia):
    otto = vault.users.create_user("otto").id
    token = vault.sessions.create_session(mia, device_id="cd" * 16).token
    assert vault.sessions.get_user_sessions(otto) == []
    assert vault.sessions.revoke_all_user_sessions(otto) == 0
    (session,) = vault.sessions.get_user_sessions(mia)
    assert (session.device_id, vault.sessions.verify_session(token)) == ("cd" * 16, session)


def test_expired_sessions_are_swept_when_one_begins_or_when_asked(vault, mia, clock):
    for _ in range(3):
        vault.sessions.create_session(mia, ttl=HOUR)
    clock.move(HOUR)
    assert vault.sessions.get_user_sessions(mia) == []
    vault.sessions.create_session(mia, ttl=HOUR)
    assert vault.connection.fetch_one("SELECT count(*) FROM auth_sessions")[0] == 1
    clock.move(HOUR)
    assert vault.sessions.cleanup_expired_sessions() == 1


@pytest.mark.parametrize("ttl", [timedelta(0), -HOUR, timedelta(days=31), 60, None])
def test_a_session_without_a_sensible_length_is_not_begun(vault, mia, ttl):
    with pytest.raises(InvalidInput):
        vault.sessions.create_session(mia, ttl=ttl)


def test_a_session_of_nobody_is_not_begun(vault):
    with pytest.raises(AccessDenied):
        vault.sessions.create_session("ab" * 16)
    with pytest.raises(NotFound):
        vault.sessions.create_session("mia")


def test_every_beginning_and_end_is_recorded_without_the_token(vault, mia):
    made = vault.sessions.create_session(mia)
    vault.sessions.revoke_token(made.token)
    assert [(entry.action, entry.subject_id) for entry in vault.audit_log.entries(user_id=mia)] == [
        ("session created", made.session.id),
        ("session revoked", made.session.id),
    ]
