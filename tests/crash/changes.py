"""Everything that is done to a vault's files from outside, one change at a time, and what may come of each.

for change in changes(worlds, count=10_000, seed=1):
    files = {**worlds[change.state].files, **change.edits}      # None: the file is removed
"""

import random
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tests.crash.world import ANCHORED, DATABASE, EARLIER, LOG, MAP, MISSING, OLDER, World

PAGE, WAL_HEADER = 4096, 32
FRAME = PAGE + 24
KINDS = {
    r"aico\.db": "database",
    r"aico\.db-wal": "log",
    r"aico\.db-map": "page map",
    r"aico\.db-shm": "log's index",
    r"vault\.json": "vault.json",
    r"anchor\.json": "anchor",
    r"session": "session",
    r".+\.snapshot": "recall index",
    r".+\.columns": "columns",
    r"data\.mdb|lock\.mdb|seal": "hot tier",
    r".+\.aicobackup": "backup",
    r"letter|note": "sealed file",
    r"[0-9a-f]{16}": "announcement",
}
"""What a file is, by its name. Locks, which are empty, and what stands for the keyring are none of them."""
OF_A_KILL = ("database", "log", "page map", "log's index", "announcement", "anchor")
"""Looked at in the state that a kill left behind as well."""
FLIP, CUT, SWAP, OLD_PAGE, OLD_FILE, FOREIGN, GONE = (
    "bit flipped", "cut", "pages swapped", "old page put back", "old file put back", "taken from elsewhere", "removed",
)  # fmt: skip
WEIGHTS = {"database": 4, "log": 4, "page map": 3, "backup": 3, "vault.json": 2}


class Change(NamedTuple):
    """One change. `may` are the outcomes, beside a refusal and the same answers, that docs/threat-model.md names."""

    state: str
    kind: str
    what: str
    where: str
    edits: Mapping[str, bytes | None]
    may: frozenset[str] = frozenset()


def kind_of(name: str) -> str | None:
    """What a file is; None for what is not changed."""
    last = name.rpartition("/")[2]
    return next((kind for pattern, kind in KINDS.items() if re.fullmatch(pattern, last)), None)


def changes(worlds: Mapping[str, World], *, count: int, seed: int) -> Iterator[Change]:
    """Each that can be counted (cuts at every page, whole files, removals), then sampled ones, `count` in all.

    Fewer than there are cuts and whole files: a sample of those too.
    """
    chance = random.Random(seed)
    counted = [change for change in _counted(worlds) if change.edits]
    if len(counted) > count // 3:
        counted = chance.sample(counted, count // 3)
    yield from counted
    places = [
        (state, name, kind)
        for state, world in worlds.items()
        for name, content in world.files.items()
        if content and (kind := kind_of(name)) is not None and (state == "closed" or kind in OF_A_KILL)
    ]
    files = {kind: sum(kind == other for _, _, other in places) for _, _, kind in places}
    weights = [WEIGHTS.get(kind, 1) / files[kind] for _, _, kind in places]
    made = len(counted)
    while made < count:
        [(state, name, kind)] = chance.choices(places, weights)
        change = chance.choices((_flip, _swap, _old_page), (14, 3, 3))[0](chance, state, worlds[state], name, kind)
        if change is not None:
            made += 1
            yield change


# What is counted


def _counted(worlds: Mapping[str, World]) -> Iterator[Change]:
    for state, world in worlds.items():
        for name, content in world.files.items():
            kind = kind_of(name)
            if kind is None or (state == "killed" and kind not in OF_A_KILL):
                continue
            yield Change(state, kind, GONE, name, {name: None}, _may_when_gone(kind))
            for size in sorted({0, *_ends(kind, content)} - {len(content)}):
                yield Change(
                    state, kind, CUT, f"{name} at {size}", {name: content[:size]}, _may_when_cut(world, kind, size)
                )
            for day, old in enumerate(world.older):
                if name in old and old[name] != content:
                    yield Change(state, kind, OLD_FILE, f"{name} of day {day}", {name: old[name]}, _may_when_old(kind))
            if name in world.elsewhere and world.elsewhere[name] != content:
                yield Change(state, kind, FOREIGN, name, {name: world.elsewhere[name]})
            for other in world.files:
                if other != name and kind_of(other) == kind and world.files[other]:
                    edits = {name: world.files[other]}
                    yield Change(state, kind, FOREIGN, f"{other} as {name}", edits, _may_when_old(kind))
        yield from _old_sets(state, world)


def _old_sets(state: str, world: World) -> Iterator[Change]:
    """Several files of one day: log and map, database and map, and all that a database is."""
    for day, old in enumerate(world.older):
        for names in ((LOG, MAP), (DATABASE, MAP), (DATABASE, LOG), (DATABASE, LOG, MAP)):
            edits = {name: old.get(name) for name in names if old.get(name) != world.files.get(name)}
            yield Change(state, "+".join(kind_of(name) or "" for name in names), OLD_FILE, f"day {day}", edits)


def _ends(kind: str, content: bytes) -> Iterator[int]:
    """Every place where a page, frame or record may end, a header, and one byte from the end."""
    step, first = (FRAME, WAL_HEADER) if kind == "log" else (PAGE, PAGE)
    yield from range(first, len(content), step)
    yield len(content) - 1
    if kind == "page map":
        at = 10 + content[9] * 61
        while length := int.from_bytes(content[at : at + 4], "big"):  # none in the room that is reserved
            yield at
            at += 16 + length


def _may_when_gone(kind: str) -> frozenset[str]:
    return frozenset({MISSING}) if kind == "backup" else frozenset()


def _may_when_cut(world: World, kind: str, size: int) -> frozenset[str]:
    """A log cut behind what the database holds reads as an earlier commit; the anchor knows of the first `ANCHORED`."""
    return frozenset({EARLIER}) if kind == "log" and size >= world.log_sizes[ANCHORED] else frozenset()


def _may_when_old(kind: str) -> frozenset[str]:
    """What is whole by itself, and known by nothing outside."""
    return frozenset({OLDER}) if kind in ("vault.json", "sealed file", "backup") else frozenset()


# What is sampled


def _flip(chance: random.Random, state: str, world: World, name: str, kind: str) -> Change:
    bit, content = chance.randrange(len(world.files[name]) * 8), bytearray(world.files[name])
    content[bit // 8] ^= 1 << bit % 8
    where = f"bit {bit} of {name}"
    return Change(state, kind, FLIP, where, {name: bytes(content)}, _may_when_bent(world, kind, bit // 8))


def _may_when_bent(world: World, kind: str, place: int) -> frozenset[str]:
    """Of the last transaction but one on, a log that is bent looks like one that ends there."""
    return frozenset({EARLIER}) if kind == "log" and place >= world.log_sizes[-3] else frozenset()


def _swap(chance: random.Random, state: str, world: World, name: str, kind: str) -> Change | None:
    """Two pages, frames or blocks of one file changed about, or one put in the place of another, of any file."""
    content, size, first = world.files[name], _block(kind, world.files[name]), WAL_HEADER if kind == "log" else 0
    here, there = (first + size * chance.randrange(max(1, (len(content) - first) // size)) for _ in range(2))
    source = chance.choice([name, name, *(other for other in world.files if world.files[other])])
    if source == name:
        one, other = content[here : here + size], content[there : there + size]
        where, first = f"{here} and {there} of {name}", min(here, there)
        edited = _with(_with(content, here, other), there, one)
    else:
        taken = chance.randrange(max(1, len(world.files[source]) // size)) * size
        edited, first = _with(content, here, world.files[source][taken : taken + size]), here
        where = f"{taken} of {source} at {here} of {name}"
    if edited == content or len(edited) != len(content):
        return None
    return Change(state, kind, SWAP, where, {name: edited}, _may_when_bent(world, kind, first))


def _old_page(chance: random.Random, state: str, world: World, name: str, kind: str) -> Change | None:
    """A page, frame or block as it was on another day, or in the vault that was restored, in its own place."""
    old = chance.choice([*world.older, world.elsewhere]).get(name, b"")
    content, size, first = world.files[name], _block(kind, world.files[name]), WAL_HEADER if kind == "log" else 0
    if len(old) <= first:
        return None
    here = first + size * chance.randrange(-(-(len(old) - first) // size))
    edited = _with(content, here, old[here : here + size])
    return None if edited == content else Change(state, kind, OLD_PAGE, f"{here} of {name}", {name: edited})


def _block(kind: str, content: bytes) -> int:
    """A page, a frame, a sealed chunk; a sixteenth of what is smaller than that."""
    size = {"log": FRAME, "sealed file": 65536 + 16}.get(kind, PAGE)
    return size if len(content) > 2 * size else max(1, len(content) // 16)


def _with(content: bytes, at: int, part: bytes) -> bytes:
    return content[:at] + part + content[at + len(part) :]
