"""A reranker behind an address: what is sent, and that no answer is believed unseen."""

import math

import numpy as np
import pytest

from aico.ai.endpoint import Endpoint
from aico.ai.reranking.served import ServedReranker
from aico.errors import ModelUnavailable

TEXTS = ["the soup", "my red bicycle", "nothing"]


def scored(*scores):
    """The answer to some texts, best first, as servers give it."""
    found = [{"index": place, "relevance_score": score} for place, score in enumerate(scores)]
    return {"model": "m", "results": sorted(found, key=lambda item: -item["relevance_score"])}


def test_a_server_is_sent_the_question_and_the_texts_and_its_scores_keep_their_places(server):
    server.answer = lambda body: scored(0.1, 0.9, 0.0)
    model = ServedReranker(Endpoint(f"{server.address}/v1", api_key="a key"), "some-model")
    assert np.allclose(model.relevances("where?", TEXTS), [0.1, 0.9, 0.0])
    [(path, body, headers)] = server.asked
    assert path == "/v1/rerank"
    assert body == {"model": "some-model", "query": "where?", "documents": TEXTS}
    assert headers["Authorization"] == "Bearer a key"


def test_scores_beyond_a_probability_are_taken_as_logits(server):
    server.answer = lambda body: scored(-1000.0, 4.0, 0.0)
    found = ServedReranker(Endpoint(server.address), "m").relevances("where?", TEXTS)
    assert np.allclose(found, [0, 1 / (1 + math.exp(-4)), 0.5])


def test_nothing_is_sent_for_no_texts(server):
    assert len(ServedReranker(Endpoint(server.address), "m").relevances("where?", [])) == 0
    assert server.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        500,
        b"[",
        [],
        {},
        {"results": None},
        {"results": [{"index": 0, "relevance_score": 1.0}]},
        scored(1.0, math.nan, 0.0),
        scored(1.0, math.inf, 0.0),
        {"results": [{"index": place, "relevance_score": "high"} for place in range(3)]},
        {"results": [{"index": place, "relevance_score": [0.1]} for place in range(3)]},
        {"results": [{"index": math.inf, "relevance_score": 1.0}]},
    ],
    ids=lambda answer: repr(answer)[:30],
)
def test_an_answer_that_orders_nothing_is_unavailable_and_tells_no_text(server, answer):
    server.answer = lambda _: answer
    with pytest.raises(ModelUnavailable) as raised:
        ServedReranker(Endpoint(server.address, api_key="a key"), "m").relevances("my diary", TEXTS)
    told = f"{raised.value} {raised.value.hint} {raised.value.__cause__}"
    assert "diary" not in told
    assert "a key" not in told
