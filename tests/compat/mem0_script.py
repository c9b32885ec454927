"""A program as people write it for mem0, with everything it does. It is run over mem0 itself and over ours.

`python tests/compat/mem0_script.py` runs it over the mem0ai that is installed, with a tiny embedder and nothing outside of a temporary
folder, and prints the shapes of all results: that is `tests/compat/mem0_shapes.json`.
    uv run --isolated --no-project --with mem0ai==2.2.1 python tests/compat/mem0_script.py > tests/compat/mem0_shapes.json
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

TALK = [
    {"role": "system", "content": "You are kind."},
    {"role": "user", "content": "I moved to Lisbon in May.", "name": "mia"},
    {"role": "assistant", "content": "How do you like Lisbon?"},
]


def script(memory: Any) -> dict[str, Any]:
    """Every verb; what each gave."""
    given: dict[str, Any] = {}
    given["add a talk"] = memory.add(TALK, user_id="mia", run_id="r1", metadata={"topic": "home", "n": 3}, infer=False)
    given["add a text"] = memory.add("I play the viola.", user_id="mia", agent_id="coach", infer=False)
    given["add for a day"] = memory.add("Buy bread.", user_id="mia", expiration_date="2020-01-01", infer=False)
    given["add for an agent"] = memory.add("I answer briefly.", agent_id="coach", infer=False)
    moved = given["add a talk"]["results"][0]["id"]
    mia = {"user_id": "mia"}
    given["search"] = memory.search("Where did she move to? Lisbon", filters=mia)
    given["search by metadata"] = memory.search("Lisbon", filters={**mia, "topic": "home", "n": {"gte": 3}})
    given["search in vain"] = memory.search("Lisbon", filters={"user_id": "otto"})
    given["get"] = memory.get(moved)
    given["get in vain"] = memory.get("00000000-0000-0000-0000-000000000000")
    given["get_all"] = memory.get_all(filters=mia)
    given["get_all of a run"] = memory.get_all(filters={**mia, "run_id": "r1"})
    given["get_all of an agent"] = memory.get_all(filters={**mia, "agent_id": "coach"})
    given["get_all expired"] = memory.get_all(filters=mia, show_expired=True)
    given["update"] = memory.update(moved, text="I moved to Porto in May.", metadata={"topic": "moving"})
    given["get updated"] = memory.get(moved)
    given["history"] = memory.history(moved)
    given["delete"] = memory.delete(given["add a text"]["results"][0]["id"])
    given["delete_all"] = memory.delete_all(user_id="mia", run_id="r1")
    given["get_all that is left"] = memory.get_all(filters=mia, show_expired=True)
    for name, call in REFUSED.items():
        given[name] = refusal(call, memory)
    return given


REFUSED: dict[str, Callable[[Any], Any]] = {
    "search without filters": lambda memory: memory.search("x"),
    "search with a top-level user": lambda memory: memory.search("x", user_id="mia"),
    "search for nothing": lambda memory: memory.search(" ", filters={"user_id": "mia"}),
    "search with a threshold beyond 1": lambda memory: memory.search("x", filters={"user_id": "mia"}, threshold=2),
    "get_all without filters": lambda memory: memory.get_all(),
    "an id with a space": lambda memory: memory.add("x", user_id="mia silva", infer=False),
    "an update of nothing": lambda memory: memory.update("00000000-0000-0000-0000-000000000000"),
    "an update in vain": lambda memory: memory.update("00000000-0000-0000-0000-000000000000", text="x"),
    "a delete in vain": lambda memory: memory.delete("00000000-0000-0000-0000-000000000000"),
    "delete_all of nobody": lambda memory: memory.delete_all(),
    "a day that is none": lambda memory: memory.add("x", user_id="mia", expiration_date="soon", infer=False),
}


def refusal(call: Callable[[Any], Any], memory: Any) -> str:
    """Whether a program that expects ValueError gets it."""
    try:
        call(memory)
    except ValueError:
        return "ValueError"
    return "done"


def shape(value: Any) -> Any:
    """Keys and types of a result, texts of the script itself as they are; lists in an order of their own."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        return sorted((shape(inner) for inner in value), key=json.dumps)
    fixed = isinstance(value, str) and len(value) < 32 and not value[:2].isdigit()
    return value if fixed or value is None or isinstance(value, bool) else type(value).__name__


def mem0_itself(folder: str) -> Any:
    """mem0 with a hash of words for an embedder and a store in the folder; its model is never asked."""
    os.environ |= {"MEM0_DIR": folder, "MEM0_TELEMETRY": "False", "OPENAI_API_KEY": "none"}
    from mem0 import Memory
    from mem0.utils.factory import EmbedderFactory

    class Words:
        def embed(self, text: str, *_: Any) -> list[float]:
            vector = [0.01] * 64
            for word in text.lower().replace(".", "").replace("?", "").split():
                vector[sum(word.encode()) % 64] += 1.0
            return vector

        def embed_batch(self, texts: list[str], *_: Any) -> list[list[float]]:
            return [self.embed(text) for text in texts]

    EmbedderFactory.create = staticmethod(lambda *_: Words())  # type: ignore[method-assign]
    store = {"provider": "qdrant", "config": {"path": f"{folder}/qdrant", "embedding_model_dims": 64}}
    return Memory.from_config({"vector_store": store, "history_db_path": f"{folder}/history.db"})


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as scratch:
        shapes = {name: shape(given) for name, given in script(mem0_itself(scratch)).items()}
    json.dump(shapes, sys.stdout, indent=1, sort_keys=True)
    print()
