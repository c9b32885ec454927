"""Whatever bytes a decoder is given, it answers or refuses in its own words. `python -m bench fuzz` tries a million."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("duckdb", reason="the columns' decoder needs the extra aico[analytics]")

from bench.decoders import DECODERS


@pytest.fixture(scope="module", params=DECODERS)
def decoder(request, tmp_path_factory):
    made = DECODERS[request.param]
    seeds, decode = made.make(tmp_path_factory.mktemp("decoder"))
    for seed in seeds:
        try:
            decode(seed)
        except made.refuses:
            pass
    return seeds, decode, made.refuses


@settings(max_examples=40)
@given(data=st.data())
def test_a_decoder_answers_or_refuses_in_its_own_words(decoder, data):
    seeds, decode, refuses = decoder
    content = bytearray(data.draw(st.sampled_from(seeds) | st.binary(max_size=400)))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(content)))
        taken = data.draw(st.integers(0, 8))
        content[at : at + taken] = data.draw(st.binary(max_size=8))
    try:
        decode(bytes(content))
    except refuses:
        return
