"""An agent of the OpenAI Agents SDK that goes on where it was, its history sealed. Needs no key: the model has a script.

uv run --extra openai-agents python examples/openai_agents_session.py
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

import aico.aio
from aico.compat.openai_agents import AicoSession

Line = str | Callable[[list[Any]], str]


class ScriptedModel(Model):
    """Says its lines one after another; a line may look at what the model is shown."""

    def __init__(self, *lines: Line) -> None:
        self._lines = iter(lines)

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
        line = next(self._lines)
        text = line if isinstance(line, str) else line(input)
        said = ResponseOutputText(text=text, type="output_text", annotations=[])
        message = ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[said])
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise NotImplementedError("this script is not streamed")


def state_of(seen: list[Any]) -> str:
    """Knows the state only if the city was said before."""
    return "California" if "San Francisco" in repr(seen) else "I do not know which city you mean"


async def main(folder: Path) -> None:
    agent = Agent(
        name="Assistant",
        instructions="Reply very concisely.",
        model=ScriptedModel("San Francisco", state_of),
    )
    for question in ("What city is the Golden Gate Bridge in?", "What state is it in?"):
        async with aico.aio.open(folder, passphrase="only an example") as companion:  # closed between the two
            session = AicoSession("conversation_123", companion, user="mia")
            result = await Runner.run(agent, question, session=session, run_config=RunConfig(tracing_disabled=True))
            print(f"{question} {result.final_output}")


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder) / "vault"))
