"""One sealed value: the attacker flips, cuts, moves, swaps and forges; nothing but the true value ever comes out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.errors import FormatTooNew, Tampered
from aico.security.envelope import HEADER_BYTES, NONCE_BYTES, TAG_BYTES, VERSION, Sealer, canonical
from aico.security.keys import ValueKey

KEY = ValueKey(bytes(range(32)))
PLACE = ("facts", b"\x01" * 16, "body")
OVERHEAD = HEADER_BYTES + NONCE_BYTES + TAG_BYTES

parts = st.one_of(st.text(), st.binary(), st.integers())
places = st.lists(parts, max_size=5).map(tuple)


@given(plain=st.binary(max_size=2000), place=places)
def test_what_was_sealed_opens_in_its_place(plain, place):
    sealed = Sealer({1: KEY}).seal(plain, bound_to=place)
    assert Sealer({1: KEY}).open(sealed, bound_to=place) == plain
    assert len(sealed) == len(plain) + OVERHEAD


@given(plain=st.binary(min_size=8, max_size=200))
def test_a_sealed_value_holds_nothing_of_the_plain_one_and_never_repeats(plain):
    sealer = Sealer({1: KEY})
    first, second = sealer.seal(plain, bound_to=PLACE), sealer.seal(plain, bound_to=PLACE)
    assert plain not in first
    assert first[HEADER_BYTES:] != second[HEADER_BYTES:]


@pytest.mark.parametrize("size", [0, 1, 33])
def test_every_single_bit_flip_is_refused(size):
    sealer = Sealer({1: KEY})
    sealed = sealer.seal(bytes(range(size)), bound_to=PLACE)
    for bit in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((Tampered, FormatTooNew)):
            sealer.open(bytes(flipped), bound_to=PLACE)


def test_every_cut_and_every_added_byte_is_refused():
    sealer = Sealer({1: KEY})
    sealed = sealer.seal(b"a memory", bound_to=PLACE)
    for cut in range(len(sealed)):
        with pytest.raises(Tampered):
            sealer.open(sealed[:cut], bound_to=PLACE)
    with pytest.raises(Tampered):
        sealer.open(sealed + b"\0", bound_to=PLACE)


@given(sealed=st.binary(max_size=100))
def test_forged_bytes_are_refused(sealed):
    with pytest.raises((Tampered, FormatTooNew)):
        Sealer({1: KEY}).open(sealed, bound_to=PLACE)


@given(place=places)
def test_a_value_moved_to_another_place_is_refused(place):
    if place == PLACE:
        return
    sealer = Sealer({1: KEY})
    with pytest.raises(Tampered):
        sealer.open(sealer.seal(b"a memory", bound_to=PLACE), bound_to=place)


def test_another_key_is_refused_like_a_changed_byte():
    sealed = Sealer({1: KEY}).seal(b"a memory", bound_to=PLACE)
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    with pytest.raises(Tampered) as wrong_key:
        Sealer({1: ValueKey(bytes(32))}).open(sealed, bound_to=PLACE)
    with pytest.raises(Tampered) as wrong_byte:
        Sealer({1: KEY}).open(changed, bound_to=PLACE)
    assert str(wrong_key.value) == str(wrong_byte.value)


def test_an_older_generation_opens_and_a_relabelled_one_does_not():
    old = Sealer({1: KEY}).seal(b"a memory", bound_to=PLACE)
    both = Sealer({1: KEY, 2: ValueKey(b"2" * 32)})
    assert both.open(old, bound_to=PLACE) == b"a memory"
    assert both.seal(b"", bound_to=PLACE)[1:3] == b"\x00\x02"
    with pytest.raises(Tampered):  # the same key under another number is not the same generation
        Sealer({2: KEY}).open(old[:1] + b"\x00\x02" + old[3:], bound_to=PLACE)
    with pytest.raises(Tampered):
        Sealer({2: KEY}).open(old, bound_to=PLACE)


@pytest.mark.parametrize("version", [VERSION + 1, 255])
def test_a_newer_version_is_named_as_newer(version):
    sealed = Sealer({1: KEY}).seal(b"a memory", bound_to=PLACE)
    with pytest.raises(FormatTooNew):
        Sealer({1: KEY}).open(bytes([version]) + sealed[1:], bound_to=PLACE)


def test_an_older_version_that_never_was_is_refused():
    sealed = Sealer({1: KEY}).seal(b"a memory", bound_to=PLACE)
    with pytest.raises(Tampered):
        Sealer({1: KEY}).open(b"\0" + sealed[1:], bound_to=PLACE)


@given(one=places, other=places)
def test_two_places_never_have_one_encoding(one, other):
    assert (canonical(one) == canonical(other)) == (_typed(one) == _typed(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("a",), (b"a",)),
        ((1,), ("1",)),
        ((1, 2), (12,)),
        (("",), ()),
        (("a", ""), ("a",)),
        ((b"s\0\0\0\x01a",), ("a",)),
        ((-1,), (1,)),
    ],
)
def test_places_that_look_alike_are_told_apart(one, other):
    assert canonical(one) != canonical(other)


def _typed(place):
    return [(type(part).__name__, part) for part in place]


def test_a_value_under_a_newer_key_opens_after_another_look_at_the_keys():
    newer = {1: KEY, 2: ValueKey(bytes(32))}
    sealed = Sealer(newer).seal(b"content", bound_to=PLACE)
    assert Sealer({1: KEY}, look_again=lambda: newer).open(sealed, bound_to=PLACE) == b"content"
    with pytest.raises(Tampered):
        Sealer({1: KEY}, look_again=lambda: {1: KEY}).open(sealed, bound_to=PLACE)
