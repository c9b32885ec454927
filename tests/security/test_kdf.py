"""A hostile cost or salt is refused before any memory is taken, and one passphrase is one key however it is typed."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.errors import InvalidInput
from aico.security.kdf import LANES, MEMORY_KIB, PASSES, check_cost, derive_key_encryption_key
from aico.security.keys import Passphrase
from aico.settings import KdfCost
from tests.children import run

SALT = bytes(16)
CHEAP = KdfCost(memory_kib=64, passes=1, lanes=1)
INSANE = [
    {"memory_kib": 2**40},
    {"memory_kib": 2**32},
    {"memory_kib": MEMORY_KIB[-1] + 1},
    {"memory_kib": 0},
    {"memory_kib": -1},
    {"memory_kib": 7},
    {"memory_kib": 8, "lanes": 4},
    {"memory_kib": 127, "lanes": 16},
    {"passes": 0},
    {"passes": -1},
    {"passes": 17},
    {"passes": 2**32},
    {"passes": 2**64},
    {"lanes": 0},
    {"lanes": -1},
    {"lanes": 17},
    {"lanes": 2**24},
    {"lanes": 2**64},
]


def derive(cost: KdfCost, *, salt: bytes = SALT, text: str = "pass"):
    return derive_key_encryption_key(Passphrase(text), salt=salt, cost=cost)


@pytest.mark.parametrize("asked", INSANE, ids=str)
def test_an_insane_cost_is_refused(asked):
    with pytest.raises(InvalidInput):
        derive(KdfCost(**{"memory_kib": 64, "passes": 1, "lanes": 1, **asked}))


@pytest.mark.parametrize(
    "cost", [KdfCost(), KdfCost(memory_kib=MEMORY_KIB[-1], passes=PASSES[-1], lanes=LANES[-1]), CHEAP]
)
def test_sane_costs_are_within_the_bounds(cost):
    check_cost(cost)


def refused_within(limit_bytes: int) -> int:
    """In a child that may not take more memory than it has plus `limit_bytes`: how many costs were refused."""
    import resource

    import cryptography.hazmat.primitives.kdf.argon2  # noqa: F401  # loaded before the limit

    derive(CHEAP)
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + limit_bytes, held + limit_bytes))
    refused = 0
    for asked in INSANE:
        try:
            derive(KdfCost(**{"memory_kib": 64, "passes": 1, "lanes": 1, **asked}))
        except InvalidInput:
            refused += 1
    return refused


def test_an_insane_cost_takes_no_memory():
    assert run(refused_within, 4 * 1024 * 1024).value == len(INSANE)


@pytest.mark.parametrize("salt", [b"", bytes(8), bytes(15), bytes(17), bytes(1000)])
def test_a_salt_of_another_length_is_refused(salt):
    with pytest.raises(InvalidInput):
        derive(CHEAP, salt=salt)


@given(text=st.text(min_size=1, max_size=20))
def test_a_passphrase_is_the_same_however_its_letters_are_composed(text):
    composed, apart = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    assert derive(CHEAP, text=composed) == derive(CHEAP, text=apart)


def test_what_only_looks_alike_is_another_passphrase():
    for one, other in [("pass", "Pass"), ("pass", "pass "), ("pass", "ｐａｓｓ"), ("a\0b", "a"), ("ﬁ", "fi")]:
        assert derive(CHEAP, text=one) != derive(CHEAP, text=other)


def test_salt_and_each_part_of_the_cost_change_the_key():
    costs = [
        CHEAP,
        KdfCost(memory_kib=72, passes=1, lanes=1),
        KdfCost(memory_kib=64, passes=2, lanes=1),
        KdfCost(memory_kib=64, passes=1, lanes=2),
    ]
    derived = {derive(cost).reveal() for cost in costs} | {derive(CHEAP, salt=bytes(15) + b"\1").reveal()}
    assert len(derived) == len(costs) + 1
