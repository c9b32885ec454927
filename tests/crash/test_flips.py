"""Single bits flipped on the disk: the same answer, a typed error, or, at the log's end alone, an earlier commit.

Each copy is opened and read to its end in a process of its own, so a crash or a hang of the engine would be seen.
`pytest -m slow -s` flips 2,000 bits; the quick suite 200. Both print the counts.
"""

import random
from collections import Counter
from pathlib import Path

import pytest

import aico
from aico.testing import PASSPHRASE, cheap_settings
from tests.children import started
from tests.crash.judge import Judge
from tests.data.libsql.cases import files_of, put_back, text_of

CLOSED, IN_LOG = 25, 12  # messages in the database, and in a WAL left by kill -9
DATABASE, LOG, KEYS = "data/aico.db", "data/aico.db-wal", "vault.json"
WAL_HEADER = 32


def open_cheaply(folder: Path | str) -> aico.Vault:
    return aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings())


def record_and_die(folder: str) -> None:
    """For a child: record messages one by one, tell the log's size after each, and wait for kill -9."""
    vault = open_cheaply(folder)
    for number in range(CLOSED, CLOSED + IN_LOG):
        vault.memory.record("mia", text_of(number), conversation="c1")
        print(Path(folder, LOG).stat().st_size, flush=True)
    input()


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory):
    """(folder, its files, where the last transaction but one ends in the log) after kill -9."""
    folder = tmp_path_factory.mktemp("flips") / "vault"
    with open_cheaply(folder) as vault:
        vault.memory.remember("mia", "Mia lives in Lisbon")
        for number in range(CLOSED):
            vault.memory.record("mia", text_of(number), conversation="c1")
    with started(record_and_die, str(folder)) as child:
        sizes = [int(child.line()) for _ in range(IN_LOG)]
        child.kill()
    return folder, files_of(folder), sizes


def flip_everywhere(left_behind, count: int, seed: int) -> Counter:
    folder, files, sizes = left_behind
    chance, counts = random.Random(seed), Counter()
    with Judge() as judge:
        put_back(folder, files)
        assert judge.outcome("vault", folder) == f"rows {CLOSED + IN_LOG}"
        for turn in range(count):
            name = (DATABASE, LOG, KEYS)[turn % 3]
            bit = chance.randrange(len(files[name]) * 8)
            flipped = bytearray(files[name])
            flipped[bit // 8] ^= 1 << bit % 8
            put_back(folder, {**files, name: bytes(flipped)})
            found = named(judge.outcome("vault", folder))
            counts[name, found] += 1
            where = f"bit {bit} of {name} (seed {seed}): {found}"
            assert found in allowed(name, bit // 8, sizes), where
            if found not in ("the same answer", "an earlier commit"):
                flip_back(folder / name, bit, flipped[bit // 8])
                again = named(judge.outcome("vault", folder))
                assert again == "the same answer", f"{where}; after the bit was put back: {again}"
    return counts


def flip_back(path: Path, bit: int, flipped: int) -> None:
    """Repair the one bit, unless the byte was written anew since. Refusing must not have made anything worse."""
    if path.exists() and path.stat().st_size > bit // 8:
        content = bytearray(path.read_bytes())
        if content[bit // 8] == flipped:
            content[bit // 8] ^= 1 << bit % 8
            path.write_bytes(content)


def named(outcome: str) -> str:
    if not outcome.startswith("rows "):
        return outcome
    count = int(outcome.removeprefix("rows "))
    if count == CLOSED + IN_LOG:
        return "the same answer"
    return "an earlier commit" if count >= CLOSED else f"WRONG: {count} rows"


def allowed(name: str, place: int, sizes: list[int]) -> set[str]:
    """The log's header and last transactions may look like a log that ends earlier: that is what a torn tail looks like."""
    same = {"the same answer"}
    if name == KEYS:
        return same | {"Tampered", "WrongPassphrase", "FormatTooNew"}
    if name == LOG and (place < WAL_HEADER or place >= sizes[-3]):
        return same | {"Tampered", "an earlier commit"}
    return same | {"Tampered"}


def report(counts: Counter) -> None:
    for name in (DATABASE, LOG, KEYS):
        print(
            f"  {name}: "
            + ", ".join(f"{count} {found}" for (where, found), count in sorted(counts.items()) if where == name)
        )


def test_a_flipped_bit_never_gives_a_wrong_memory(left_behind):
    counts = flip_everywhere(left_behind, 200, seed=1)
    print("\n200 flips"), report(counts)
    assert counts[DATABASE, "Tampered"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_thousand_flipped_bits_never_give_a_wrong_memory(left_behind):
    print("\n2,000 flips"), report(flip_everywhere(left_behind, 2000, seed=2))
