"""The backend's ModelService, with a method that is a coroutine or not, from a thread with a loop or without."""

import asyncio
import threading

import numpy as np
import pytest

from aico.ai.embedding.model_service import ModelServiceEmbedder
from aico.errors import ModelUnavailable


class Service:
    def __init__(self, **changed):
        self.asked, self.changed, self.loop = [], changed, None

    def get_embeddings(self, model, prompt):
        self.asked.append((model, prompt))
        return {"success": True, "data": {"embedding": [float(len(prompt)), 1.0]}, "error": None, **self.changed}


class AwaitableService(Service):
    async def get_embeddings(self, model, prompt):
        self.loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        return super().get_embeddings(model, prompt)


@pytest.mark.parametrize("made", [Service, AwaitableService])
def test_a_service_gives_unit_vectors_one_text_at_a_time(made):
    service = made()
    embedder = ModelServiceEmbedder(service)
    found = embedder.embed(["a", "bcd"])
    expected = np.array([[1, 1], [3, 1]]) / np.sqrt([[2], [10]])
    assert np.allclose(found, expected)
    assert embedder.dimension == 2
    assert service.asked == [("paraphrase-multilingual", "a"), ("paraphrase-multilingual", "bcd")]


@pytest.mark.parametrize("made", [Service, AwaitableService])
def test_a_caller_may_have_a_running_loop(made):
    async def caller():
        return ModelServiceEmbedder(made()).embed(["a"])

    assert asyncio.run(caller()).shape == (1, 2)


def test_a_service_may_live_in_a_loop_of_its_own():
    loop, service = asyncio.new_event_loop(), AwaitableService()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert ModelServiceEmbedder(service, loop=loop).embed(["a"]).shape == (1, 2)
        assert service.loop is loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize(
    "changed", [{"success": False}, {"data": None}, {"data": {}}, {"data": {"embedding": "text"}}, {"success": 1}]
)
def test_an_answer_without_success_or_vector_is_refused(changed):
    with pytest.raises(ModelUnavailable):
        ModelServiceEmbedder(Service(**changed)).embed(["a"])


def test_a_service_that_fails_makes_the_model_unavailable_and_tells_no_text():
    class Broken:
        def get_embeddings(self, model, prompt):
            raise OSError(prompt)

    with pytest.raises(ModelUnavailable) as raised:
        ModelServiceEmbedder(Broken()).embed(["my diary"])
    assert "diary" not in f"{raised.value} {raised.value.hint}"
    assert raised.value.__cause__ is None
