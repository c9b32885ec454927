"""`vault.json` in an attacker's hands: it gives the true keys or a typed error, and is never changed by a failure."""

import json
import os
import threading
from pathlib import Path

import msgspec
import pytest
from mnemonic import Mnemonic

from aico.errors import (
    AicoError,
    FormatTooNew,
    InvalidInput,
    KeyslotMissing,
    NotFound,
    StorageError,
    Tampered,
    WrongPassphrase,
)
from aico.security import keyslots
from aico.security.keys import Passphrase
from aico.security.keyslots import VaultFile
from aico.security.phrase import new_phrase
from aico.settings import KdfCost
from tests.children import run

CHEAP = KdfCost(memory_kib=8, passes=1, lanes=1)
ONE, TWO = Passphrase("first passphrase"), Passphrase("second passphrase")


@pytest.fixture
def vault(tmp_path):
    """(path, keys, recovery phrase) of a vault with two passphrases and a recovery phrase."""
    made, unlocked = VaultFile.new(ONE, cost=CHEAP)
    made = made.with_passphrase(unlocked.root, TWO, cost=CHEAP)
    made, phrase = made.with_recovery_phrase(unlocked.root)
    path = tmp_path / "vault.json"
    made.write(path)
    return path, unlocked, phrase


def rewritten(path, change):
    """The file after an attacker edited its JSON."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
    return path


def test_each_secret_gives_the_same_keys(vault):
    path, keys, phrase = vault
    for secret in (ONE, TWO, phrase):
        assert VaultFile.read(path).unlock(secret) == keys
    assert VaultFile.read(path).kinds() == ["passphrase", "passphrase", "recovery"]


def test_the_file_is_private_and_holds_no_secret(vault):
    path, keys, phrase = vault
    raw = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    for secret in (keys.root, keys.natural):
        assert secret.reveal() not in raw
        assert secret.reveal().hex().encode() not in raw
        assert msgspec.json.encode(secret.reveal()).strip(b'"=') not in raw
    assert phrase.reveal().split()[0].encode() + b" " not in raw
    assert os.listdir(path.parent) == ["vault.json"]


def test_a_wrong_passphrase_leaves_the_file_byte_identical(vault):
    path, _, _ = vault
    before = path.read_bytes()
    for wrong in ("wrong", "first passphrase ", "First passphrase", "x" * 10_000):
        with pytest.raises(WrongPassphrase):
            VaultFile.read(path).unlock(Passphrase(wrong))
    assert path.read_bytes() == before


# Recovery phrases


def test_a_phrase_works_with_other_case_and_spacing(vault):
    path, keys, phrase = vault
    words = phrase.reveal().split()
    assert len(words) == 24
    for typed in (
        phrase.reveal().upper(),
        "  ".join(words),
        "\n".join(words) + "\n",
        "\t " + " ".join(words).title(),
        "\u3000".join(words),
    ):
        assert VaultFile.read(path).unlock(Passphrase(typed)) == keys


def test_a_misspelt_phrase_is_invalid_input(vault):
    path, _, phrase = vault
    words = phrase.reveal().split()
    for typed in (
        [*words[:-1], "zzzz"],
        [words[1], words[0], *words[2:]] if words[0] != words[1] else [*words[:-1], "x"],
    ):
        if Mnemonic("english").check(" ".join(typed)):
            continue  # one swap in 256 keeps the checksum
        with pytest.raises(InvalidInput) as refused:
            VaultFile.read(path).unlock(Passphrase(" ".join(typed)))
        assert words[3] not in str(refused.value).split()


def test_another_vaults_phrase_is_wrong_and_not_misspelt(vault):
    path, _, _ = vault
    with pytest.raises(WrongPassphrase):
        VaultFile.read(path).unlock(new_phrase())


def test_a_phrase_of_another_length_is_wrong(vault):
    path, _, phrase = vault
    words = phrase.reveal().split()
    for typed in (words[:23], [*words, "abandon"], words[:12]):
        with pytest.raises(WrongPassphrase):
            VaultFile.read(path).unlock(Passphrase(" ".join(typed)))


def test_a_passphrase_of_24_words_works_beside_a_recovery_phrase(tmp_path):
    like_a_phrase = Passphrase(" ".join(["correct"] * 24))
    made, keys = VaultFile.new(like_a_phrase, cost=CHEAP)
    made, _ = made.with_recovery_phrase(keys.root)
    assert made.unlock(like_a_phrase) == keys


def test_a_new_phrase_ends_the_older_one(vault):
    path, keys, older = vault
    changed, newer = VaultFile.read(path).with_recovery_phrase(keys.root)
    assert changed.unlock(newer) == keys
    with pytest.raises(WrongPassphrase):
        changed.unlock(older)


def test_the_phrase_is_bip_39():
    # BIP-39 test vectors (trezor), 256 bits: entropy to words and back.
    words = " ".join(["abandon"] * 23 + ["art"])
    assert Mnemonic("english").to_mnemonic(bytes(32)) == words
    assert bytes(Mnemonic("english").to_entropy("zoo " * 23 + "vote")) == b"\xff" * 32
    assert Mnemonic("english").check(new_phrase().reveal())


# Flips and edits


def outcome(raw: bytes, path, secret, keys) -> str:
    path.write_bytes(raw)
    try:
        unlocked = VaultFile.read(path).unlock(secret)
    except AicoError as exc:
        return type(exc).__name__
    assert unlocked == keys
    return "the same keys"


def test_every_flipped_bit_gives_the_same_keys_or_a_typed_error(vault):
    path, keys, phrase = vault
    raw, counts = path.read_bytes(), {}
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        found = outcome(bytes(flipped), path, ONE if bit % 3 else phrase, keys)
        counts[found] = counts.get(found, 0) + 1
    print(f"vault.json, {len(raw) * 8} bits flipped: {counts}")
    # What lies between the values (indentation) and base64's spare bits may change without meaning anything else.
    assert counts["Tampered"] > counts.get("the same keys", 0)


def test_every_cut_gives_a_typed_error(vault):
    path, keys, _ = vault
    raw = path.read_bytes()
    for cut in range(len(raw)):
        found = outcome(raw[:cut], path, ONE, keys)
        assert found == "Tampered" or (found == "the same keys" and not raw[cut:].strip())


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"{}", b"[" * 100_000, b'{"format":0}', b"\xff\xfe", b"\0" * 4096, b'"' + b"x" * 2_000_000],
    ids=lambda raw: raw[:12].hex() or "empty",
)
def test_what_is_no_vault_file_is_refused(tmp_path, raw):
    (tmp_path / "vault.json").write_bytes(raw)
    with pytest.raises(Tampered):
        VaultFile.read(tmp_path / "vault.json")


def test_no_file_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        VaultFile.read(tmp_path / "vault.json")


def test_a_folder_or_a_pipe_in_its_place_is_refused_without_waiting(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(AicoError):
        VaultFile.read(tmp_path / "a")
    os.mkfifo(tmp_path / "b")
    ended = threading.Event()
    outcomes = []

    def read() -> None:
        try:
            outcomes.append(VaultFile.read(tmp_path / "b"))
        except BaseException as exc:
            outcomes.append(exc)
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    waited_for_nothing = ended.wait(5)
    if not waited_for_nothing:  # set the thread free before the test fails
        os.close(os.open(tmp_path / "b", os.O_WRONLY | os.O_NONBLOCK))
    assert waited_for_nothing
    assert isinstance(outcomes[0], AicoError)


@pytest.mark.parametrize(
    "cost",
    [
        {"memory_kib": 2**40, "passes": 1, "lanes": 1},
        {"memory_kib": 2**63, "passes": 1, "lanes": 1},
        {"memory_kib": 64, "passes": 1, "lanes": 0},
        {"memory_kib": 64, "passes": 2**31, "lanes": 1},
        {"memory_kib": -8, "passes": 1, "lanes": 1},
        {"memory_kib": 64, "passes": 0, "lanes": 1},
        {"memory_kib": 2**200, "passes": 1, "lanes": 1},
        {"memory_kib": 8, "passes": 1, "lanes": 16},
    ],
    ids=str,
)
def test_an_insane_cost_in_the_file_is_refused(vault, cost):
    path, _, _ = vault
    rewritten(path, lambda document: [slot.update(argon2id=cost) for slot in document["keyslots"] if slot["argon2id"]])
    with pytest.raises(Tampered):
        VaultFile.read(path).unlock(ONE)


def test_a_flood_of_keyslots_is_refused(vault):
    """Each wrong slot costs a derivation of up to a gigabyte: a file must not make opening take hours."""
    path, _, _ = vault

    def flood(document):
        slot = {**document["keyslots"][0], "argon2id": {"memory_kib": 256 * 1024, "passes": 16, "lanes": 1}}
        document["keyslots"] = [{**slot, "id": f"{number:016x}"} for number in range(2000)] + document["keyslots"]

    rewritten(path, flood)
    assert run(unlocked, str(path), ONE.reveal(), patience_s=20).error == "Tampered"


def unlocked(path: str, secret: str) -> None:
    VaultFile.read(Path(path)).unlock(Passphrase(secret))


HOSTILE = {
    "a salt of no bytes": lambda d: d["keyslots"][0].update(salt=""),
    "a salt of another length": lambda d: d["keyslots"][0].update(salt="AAAA"),
    "a salt that is no base64": lambda d: d["keyslots"][0].update(salt="!!!!"),
    "a cost left out": lambda d: d["keyslots"][0].update(argon2id=None),
    "a cost lowered": lambda d: d["keyslots"][0]["argon2id"].update(passes=2),
    "another kind": lambda d: d["keyslots"][0].update(kind="recovery"),
    "an unknown kind": lambda d: d["keyslots"][0].update(kind="backdoor"),
    "another id": lambda d: d["keyslots"][0].update(id="0" * 16),
    "an id of half a character": lambda d: d["keyslots"][0].update(id="\ud800"),
    "another slot's generation": lambda d: d["keyslots"][0].update(generation=2),
    "a huge generation": lambda d: d["keyslots"][0].update(generation=2**70),
    "another generation": lambda d: d.update(generation=2),
    "a negative generation": lambda d: d.update(generation=-1),
    "another vault's id": lambda d: d.update(vault_id="0" * 32),
    "a vault id of half a character": lambda d: d.update(vault_id="\ud800"),
    "a negative format": lambda d: d.update(format=-1),
    "a format in words": lambda d: d.update(format="0"),
    "a format that is a fraction": lambda d: d.update(format=0.5),
    "a format that is no number": lambda d: d.update(format=True),
    "no seal": lambda d: d.update(seal=""),
    "no natural key": lambda d: d.update(natural_key=""),
    "seal and natural key exchanged": lambda d: d.update(seal=d["natural_key"], natural_key=d["seal"]),
    "an empty wrap": lambda d: d["keyslots"][0].update(wrapped=""),
    "a wrap of a newer release": lambda d: d["keyslots"][0].update(wrapped="/" + d["keyslots"][0]["wrapped"][1:]),
    "a field more": lambda d: d.update(extra=1),
    "a field less": lambda d: d.pop("seal"),
    "no slots": lambda d: d.update(keyslots=[]),
    "a slot removed": lambda d: d["keyslots"].pop(1),
    "the order changed": lambda d: d["keyslots"].reverse(),
    "a slot twice": lambda d: d["keyslots"].append(d["keyslots"][0]),
    "wraps exchanged": lambda d: d["keyslots"][0].update(wrapped=d["keyslots"][1]["wrapped"]),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_an_edited_file_is_refused_by_every_secret(vault, change):
    path, _, phrase = vault
    rewritten(path, change)
    for secret in (ONE, TWO, phrase):
        with pytest.raises((Tampered, WrongPassphrase)):
            VaultFile.read(path).unlock(secret)


def test_a_slot_of_another_vault_is_refused(vault, tmp_path):
    path, _, _ = vault
    other, _ = VaultFile.new(ONE, cost=CHEAP)
    theirs = json.loads(msgspec.json.encode(other))["keyslots"][0]
    rewritten(path, lambda document: document["keyslots"].__setitem__(0, theirs))
    for secret in (ONE, TWO):
        with pytest.raises((Tampered, WrongPassphrase)):
            VaultFile.read(path).unlock(secret)


def test_a_newer_format_is_named_as_newer_and_left_alone(vault):
    path, _, _ = vault
    rewritten(path, lambda document: document.update(format=keyslots.LIBSQL_FORMAT + 1, something_new={"a": 1}))
    before = path.read_bytes()
    with pytest.raises(FormatTooNew):
        VaultFile.read(path)
    assert path.read_bytes() == before


def test_a_failed_write_leaves_the_older_file(vault):
    path, keys, phrase = vault
    before = path.read_bytes()
    changed, _ = VaultFile.read(path).with_recovery_phrase(keys.root)
    done = run(written_without_room, str(path), msgspec.json.encode(changed).decode())
    assert done.error in ("DiskFull", "StorageError"), done
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["vault.json"]
    assert VaultFile.read(path).unlock(phrase) == keys


def written_without_room(path: str, content: str) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    msgspec.json.decode(content, type=VaultFile).write(Path(path))


def test_without_a_slot_of_that_kind_the_keyring_is_not_asked(vault):
    path, _, _ = vault
    with pytest.raises(KeyslotMissing):
        VaultFile.read(path).unlock_by_keyring()


def test_the_first_file_is_never_written_over_another_nor_where_there_is_no_folder(vault, tmp_path):
    path, _, _ = vault
    before = path.read_bytes()
    made, _ = VaultFile.new(ONE, cost=CHEAP)
    with pytest.raises(InvalidInput, match="exists"):
        made.write_new(path)
    assert path.read_bytes() == before
    with pytest.raises(StorageError):
        made.write_new(tmp_path / "nowhere" / "vault.json")
    assert os.listdir(tmp_path) == ["vault.json"]


def test_a_folder_of_the_vault_that_is_a_file_is_an_error_of_the_storage(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="not opened"):
        VaultFile.read(tmp_path / "file" / "vault.json")


def test_each_keyslot_says_whether_a_secret_opens_it(vault):
    path, _, phrase = vault
    one, two, recovery = VaultFile.read(path).keyslots
    file = VaultFile.read(path)
    assert [file.opens(slot, ONE) for slot in (one, two, recovery)] == [True, False, False]
    assert [file.opens(slot, phrase) for slot in (one, two, recovery)] == [False, False, True]
    assert not file.opens(msgspec.structs.replace(one, kind="keyring"), ONE)
