"""The default model, loaded once for all tests; and a model server that answers what a test tells it to."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from aico.ai.embedding.choice import can_run_default_model
from aico.ai.embedding.e5 import E5Embedder
from aico.ai.embedding.weights import find_weights


@pytest.fixture(scope="session")
def weights() -> Path:
    found = find_weights()
    if found is None or not can_run_default_model():
        pytest.skip("the default model is not installed")
    return found


@pytest.fixture(scope="session")
def e5(weights: Path) -> E5Embedder:
    return E5Embedder(weights)


@dataclass
class ModelServer:
    """Answers with what `answer` makes of the question, or with the bytes or status that it returns."""

    address: str
    answer: Callable[[dict[str, Any]], Any]
    asked: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.asked.append((self.path, body, dict(self.headers)))
            answer = made.answer(body)
            self.send_response(answer if isinstance(answer, int) else 200)
            self.end_headers()
            if not isinstance(answer, int):
                self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = ModelServer(f"http://127.0.0.1:{http.server_port}", lambda _: 500)
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    http.shutdown()
    thread.join()
    http.server_close()
