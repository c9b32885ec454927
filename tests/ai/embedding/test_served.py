"""Models behind an address: what is sent, and that no answer is believed unseen."""

import math
import socket
import threading
from contextlib import suppress

import numpy as np
import pytest

from aico.ai.embedding.served import OllamaEmbedder, OpenAIEmbedder
from aico.ai.endpoint import Endpoint
from aico.errors import InvalidInput, ModelUnavailable


def vector_of(text: str) -> list[float]:
    return [float(len(text)), 3.0, -1.0]


def ollama(body):
    return {"model": body["model"], "embeddings": [vector_of(text) for text in body["input"]]}


def openai(body):
    data = [{"object": "embedding", "index": at, "embedding": vector_of(text)} for at, text in enumerate(body["input"])]
    return {"object": "list", "data": data[::-1]}


def embedder_for(kind, server, **options):
    made = {"ollama": OllamaEmbedder, "openai": OpenAIEmbedder}[kind]
    return made(Endpoint(server.address, **options), "some-model")


ANSWERS = {"ollama": ollama, "openai": openai}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_server_gives_each_text_its_unit_vector(kind, server):
    server.answer = ANSWERS[kind]
    embedder = embedder_for(kind, server)
    texts = [f"text {'x' * number}" for number in range(70)]
    expected = np.array([vector_of(text) for text in texts])
    assert np.allclose(embedder.embed(texts), expected / np.linalg.norm(expected, axis=1, keepdims=True))
    assert embedder.dimension == 3
    assert embedder.id == f"{kind}/some-model"
    assert [len(body["input"]) for _, body, _ in server.asked] == [64, 6]


@pytest.mark.parametrize("kind", ANSWERS)
def test_the_dimension_is_asked_with_nothing_of_anybodys(kind, server):
    server.answer = ANSWERS[kind]
    embedder = embedder_for(kind, server)
    assert embedder.embed([]).shape == (0, 3)
    assert [body["input"] for _, body, _ in server.asked] == [["a"]]


def test_paths_and_keys_are_what_each_server_expects(server):
    server.answer = ollama
    embedder_for("ollama", server).embed(["x"])
    server.answer = openai
    embedder_for("openai", server, api_key="a key").embed(["x"])
    (ollama_path, _, without), (openai_path, _, headers) = server.asked
    assert (ollama_path, openai_path) == ("/api/embed", "/embeddings")
    assert headers["Authorization"] == "Bearer a key"
    assert "Authorization" not in without


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize(
    "vectors",
    [
        [[1.0, 2.0, 3.0]],
        [[1.0, 2.0, 3.0], [1.0, 2.0]],
        [[1.0, 2.0], [1.0, 2.0]],
        [[1.0, 2.0, math.nan], [1.0, 2.0, 3.0]],
        [[1.0, 2.0, math.inf], [1.0, 2.0, 3.0]],
        [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]],
        [[1e308, 1e308, 1e308], [1.0, 2.0, 3.0]],
        [["a", "b", "c"], [1.0, 2.0, 3.0]],
        [None, None],
        [[], []],
        "text",
        {},
    ],
)
def test_an_answer_that_is_no_list_of_vectors_is_refused(kind, vectors, server):
    server.answer = ANSWERS[kind]
    embedder = embedder_for(kind, server)
    assert embedder.dimension == 3
    if kind == "openai" and isinstance(vectors, list):
        server.answer = lambda _: {"data": [{"index": at, "embedding": one} for at, one in enumerate(vectors)]}
    else:
        server.answer = lambda _: {"embeddings": vectors, "data": vectors}
    with pytest.raises(ModelUnavailable):
        embedder.embed(["my diary", "my other diary"])


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize(
    "answer", [500, 404, b"not JSON", b"[", [], {}, {"data": [{}]}, {"data": [{"index": 5, "embedding": [1]}]}]
)
def test_a_failing_server_makes_the_model_unavailable_and_tells_no_text(kind, answer, server):
    server.answer = lambda _: answer
    with pytest.raises(ModelUnavailable) as raised:
        embedder_for(kind, server, api_key="a key").embed(["my diary"])
    told = f"{raised.value} {raised.value.hint} {raised.value.__cause__}"
    assert "diary" not in told
    assert "a key" not in told


@pytest.mark.parametrize(
    "index", [math.inf, -math.inf, math.nan, "x", None, 10**400], ids=lambda index: repr(index)[:8]
)
def test_a_place_in_the_answer_that_is_none_is_unavailable_and_no_accident(server, index):
    server.answer = lambda _: {"data": [{"index": index, "embedding": [1.0, 2.0]}]}
    with pytest.raises(ModelUnavailable):
        embedder_for("openai", server).embed(["x"])


def test_a_server_that_drips_its_answer_gets_no_longer_than_one_that_is_silent():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def drip() -> None:
            asked, _ = listening.accept()
            with asked, suppress(OSError):
                asked.recv(65536)
                asked.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while not ended.wait(0.02):
                    asked.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(ModelUnavailable, match="TimeoutError"):
                Endpoint(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout_s=0.2).post("x", {})
        finally:
            ended.set()
            thread.join()


def test_an_address_with_half_a_bracket_is_no_address():
    with pytest.raises(InvalidInput):
        Endpoint("http://[::1")
