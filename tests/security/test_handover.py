"""The next root key goes to who has the vault open on this machine, and to nobody who has copies of the files."""

import fcntl
import os

import pytest

from aico.errors import StorageError
from aico.security import handover
from aico.security.handover import NEXT, Announcement, hand_over
from aico.security.keys import RootKey
from tests.children import started

VAULT = "0" * 32


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "open"


@pytest.fixture
def roots():
    return [RootKey.random() for _ in range(4)]


def announce(folder, root, generation=1) -> Announcement:
    return Announcement(folder, vault_id=VAULT, generation=generation, root=root)


def give(folder, roots, generation=1) -> int:
    old, new = roots[generation - 1 : generation + 1]
    return hand_over(folder, vault_id=VAULT, generation=generation, old=old, new=new)


def test_every_process_that_has_the_vault_open_gets_the_next_key(folder, roots):
    processes = [announce(folder, roots[0]) for _ in range(3)]
    assert give(folder, roots) == 3
    assert [process.follow(1, roots[0]) for process in processes] == [roots[1]] * 3


def test_who_sleeps_through_two_rotations_follows_both(folder, roots):
    sleeper = announce(folder, roots[0])
    assert [give(folder, roots, generation) for generation in (1, 2, 3)] == [1, 1, 1]
    at = roots[0]
    for generation in (1, 2, 3):
        at = sleeper.follow(generation, at)
        assert at == roots[generation]


def test_a_handover_for_a_rotation_that_never_came_about_gives_way_to_the_next(folder, roots):
    process = announce(folder, roots[0])
    give(folder, [roots[0], roots[3]])
    give(folder, roots)
    assert process.follow(1, roots[0]) == roots[1]


def test_closing_takes_it_back_and_leaves_nothing(folder, roots):
    process = announce(folder, roots[0])
    give(folder, roots)
    process.close()
    process.close()
    assert list(folder.iterdir()) == []
    assert give(folder, roots) == 0


def announce_and_wait(folder: str, root: str) -> None:
    from pathlib import Path

    kept = announce(Path(folder), RootKey(bytes.fromhex(root)))
    print(kept.path.name, flush=True)
    input()


def test_what_a_killed_process_left_behind_is_given_nothing_and_swept(folder, roots):
    with started(announce_and_wait, str(folder), roots[0].reveal().hex()) as child:
        name = child.line()
        assert (folder / name).exists()
        child.kill()
    assert give(folder, roots) == 0
    assert list(folder.iterdir()) == []


# Attacks


def test_copies_of_all_files_and_the_old_root_key_do_not_give_the_new_one(folder, roots):
    """The attack: somebody has the leaked root key, and a synchronised copy of the folder from during the rotation."""
    process = announce(folder, roots[0])
    give(folder, roots)
    copy = {path.name: path.read_bytes() for path in folder.iterdir()}
    thief = announce(folder, roots[0])  # all that the process has, but its private key
    thief.path.with_name(thief.path.name + NEXT).write_bytes(copy[process.path.name + NEXT])
    assert thief.follow(1, roots[0]) is None
    thief._vault_id, thief.path = VAULT, process.path
    assert thief.follow(1, roots[0]) is None
    assert roots[1].reveal() not in b"".join(copy.values())


def test_an_announcement_that_nobody_holds_locked_here_is_given_nothing(folder, roots):
    """The attack: a file with the thief's own public half, made with the leaked root key, arrives by synchronisation."""
    thief = announce(folder, roots[0])
    copied = thief.path.read_bytes()
    thief.close()
    (folder / thief.path.name).write_bytes(copied)
    assert give(folder, roots) == 0
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"x" * 63, b"\xff" * 4096])
def test_an_announcement_that_was_not_made_with_the_root_key_is_given_nothing(folder, roots, content):
    """The attack: somebody who may write there, but has no key of the vault, asks for the next."""
    announce(folder, roots[0]).close()
    descriptor = os.open(folder / "0123456789abcdef", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, content)
    assert give(folder, roots) == 0
    os.close(descriptor)
    stranger = announce(folder, RootKey.random())
    assert give(folder, roots) == 0
    stranger.close()


def test_a_key_handed_over_without_the_old_root_key_is_not_taken(folder, roots):
    """The attack: a process is to go on under a root key that somebody else knows."""
    process = announce(folder, roots[0])
    public = process._public
    from aico.security import handover

    forged = handover._step(1, public, old=roots[2], new=roots[3], place=("open", VAULT, process.path.name))
    import msgspec

    next_file = process.path.with_name(process.path.name + NEXT)
    next_file.write_bytes(msgspec.json.encode(handover._Next(b"", (forged,))))
    assert process.follow(1, roots[0]) is None
    give(folder, roots)
    assert process.follow(1, roots[0]) == roots[1]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1,2]", b"\xff", b'{"announced":"","steps":[{"after":1}]}', b"9" * 99]
)
def test_a_damaged_handover_gives_no_key_and_no_crash(folder, roots, content):
    process = announce(folder, roots[0])
    process.path.with_name(process.path.name + NEXT).write_bytes(content)
    assert process.follow(1, roots[0]) is None
    assert give(folder, roots) == 1
    assert process.follow(1, roots[0]) == roots[1]


def test_every_changed_byte_of_a_handover_is_refused(folder, roots):
    process = announce(folder, roots[0])
    give(folder, roots)
    next_file = process.path.with_name(process.path.name + NEXT)
    whole = next_file.read_bytes()
    start = whole.index(b'"steps"')
    for place in range(start, len(whole)):
        next_file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert process.follow(1, roots[0]) in (None, roots[1])  # some bits of base64's end and of JSON say the same
    next_file.write_bytes(whole)
    assert process.follow(1, roots[0]) == roots[1]


def test_where_nobody_ever_opened_the_vault_nobody_is_given_anything(folder, roots):
    assert give(folder, roots) == 0
    assert not folder.exists()


def test_a_forked_child_that_closes_leaves_the_parents_announcement(folder, roots):
    process = announce(folder, roots[0])
    child = os.fork()
    if not child:
        process.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert process.path.exists()
    assert give(folder, roots) == 1


def test_an_announcement_of_a_key_that_is_none_is_given_nothing(folder, roots):
    """The attack needs the root key, and gains nothing: what is announced is no public half."""
    process = announce(folder, roots[0])
    sealed = handover._sealer(1, roots[0]).seal(b"short", bound_to=handover._place(VAULT, process.path.name))
    process.path.write_bytes(sealed)
    assert give(folder, roots) == 0


def test_what_is_no_file_and_what_belongs_to_nobody_is_in_nobodys_way(folder, roots):
    """The attack: a link out of the folder, and a handover for a process that is not there."""
    process = announce(folder, roots[0])
    outside = folder.with_name("outside")
    outside.write_bytes(b"somebody's")
    (folder / "0000000000000000").symlink_to(outside)
    (folder / f"1111111111111111{NEXT}").write_bytes(b"{}")
    assert give(folder, roots) == 1
    assert outside.read_bytes() == b"somebody's"
    assert not (folder / f"1111111111111111{NEXT}").exists()
    assert process.follow(1, roots[0]) == roots[1]


def test_a_file_swept_away_before_it_was_locked_is_made_again(folder, roots, monkeypatch):
    """Between its making and its lock somebody may take it for a dead process's."""
    taken = []

    def lock(descriptor, how):
        if how == fcntl.LOCK_EX and not taken:
            taken.extend(folder.iterdir())
            taken[0].unlink()
        real(descriptor, how)

    real = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lock)
    process = announce(folder, roots[0])
    assert process.path != taken[0]
    assert process.path.exists()


def test_where_nobody_can_be_announced_the_vault_is_not_opened(folder, roots):
    folder.write_bytes(b"a file in the place of the folder")
    with pytest.raises(StorageError, match="not opened"):
        announce(folder, roots[0])
