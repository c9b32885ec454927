"""A LangGraph graph with long-term memory that is sealed and outlives the program. Needs no key: the node has a script.

uv run --extra langgraph --group frameworks python examples/langgraph_memory.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime

import aico
from aico.compat.langgraph import AicoStore

MEMORIES = ("mia", "memories")


def answer(state: MessagesState, runtime: Runtime) -> dict[str, Any]:
    """Stands for a model: keeps what it is asked to remember, and answers with what it knows."""
    said = str(state["messages"][-1].content)
    assert runtime.store is not None
    known = runtime.store.search(MEMORIES, query=said, limit=1)
    if said.startswith("Remember: "):
        runtime.store.put(MEMORIES, str(abs(hash(said))), {"data": said.removeprefix("Remember: ")})
        return {"messages": [("ai", "I shall.")]}
    return {"messages": [("ai", known[0].value["data"] if known else "I do not know.")]}


def chat(folder: Path, text: str) -> str:
    with aico.open(folder, passphrase="only an example") as companion:  # closed between two questions
        builder = StateGraph(MessagesState)
        builder.add_node(answer)
        builder.add_edge(START, "answer")
        graph = builder.compile(store=AicoStore(companion, user="mia"))
        return str(graph.invoke({"messages": [("user", text)]})["messages"][-1].content)


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        for text in ("Remember: Mia plays the viola on Mondays.", "What instrument does Mia play?"):
            print(f"{text} {chat(Path(folder) / 'vault', text)}")
