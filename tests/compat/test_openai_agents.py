"""AicoSession beside the SDK's own SQLiteSession, and an agent that talks through it, with a model that has a script."""

import asyncio
import inspect
from typing import Any

import pytest

pytest.importorskip("agents", reason="a session of the OpenAI Agents SDK needs the extra aico[openai-agents]")

from agents import Agent, RunConfig, Runner, SQLiteSession
from agents.memory import Session, SessionSettings
from hypothesis import given, settings
from hypothesis import strategies as st

import aico.aio
from aico.compat.openai_agents import AicoSession
from aico.errors import InvalidInput
from aico.testing import PASSPHRASE, cheap_settings, temporary_vault
from examples.openai_agents_session import ScriptedModel

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
ITEMS = st.dictionaries(st.text(max_size=6), JSON, max_size=4)
STEPS = st.lists(
    st.tuples(st.just("add"), st.lists(ITEMS, max_size=3))
    | st.tuples(st.just("pop"), st.none())
    | st.tuples(st.just("get"), st.none() | st.integers(0, 4))
    | st.tuples(st.just("clear"), st.none()),
    max_size=8,
)


@pytest.fixture(scope="module")
def lasting_vault():
    with temporary_vault() as vault:
        yield vault


@settings(max_examples=30)
@given(steps=STEPS)
def test_any_steps_give_what_the_sdks_own_session_gives(lasting_vault, steps):
    async def history(session: Any) -> list[Any]:
        given = []
        for step, argument in steps:
            if step == "add":
                await session.add_items(argument)
            elif step == "pop":
                given.append(await session.pop_item())
            elif step == "clear":
                await session.clear_session()
            else:
                given.append(await session.get_items(argument))
        return [*given, await session.get_items()]

    async def both() -> tuple[list[Any], list[Any]]:
        theirs = SQLiteSession("s")
        try:
            ours = AicoSession("s", lasting_vault, user="mia")
            await ours.clear_session()
            return await history(ours), await history(theirs)
        finally:
            theirs.close()

    ours, theirs = asyncio.run(both())
    assert repr(ours) == repr(theirs)


def test_it_is_a_session_with_every_method_of_the_protocol():
    with temporary_vault() as vault:
        session = AicoSession("s", vault, user="mia")
        assert isinstance(session, Session)
        for name in ("get_items", "add_items", "pop_item", "clear_session"):
            theirs, ours = inspect.signature(getattr(Session, name)), inspect.signature(getattr(AicoSession, name))
            assert ours.parameters.keys() == theirs.parameters.keys()


def test_the_settings_limit_what_a_run_reads():
    async def program() -> list[Any]:
        with temporary_vault() as vault:
            session = AicoSession("s", vault, user="mia", session_settings=SessionSettings(limit=2))
            await session.add_items([{"role": "user", "content": str(number)} for number in range(5)])
            return [await session.get_items(), await session.get_items(3)]

    some, more = asyncio.run(program())
    assert [item["content"] for item in some] == ["3", "4"]
    assert [item["content"] for item in more] == ["2", "3", "4"]


def test_an_item_that_cannot_come_back_as_it_was_is_refused_with_all_beside_it():
    async def program() -> list[Any]:
        with temporary_vault() as vault:
            session = AicoSession("s", vault, user="mia")
            with pytest.raises(InvalidInput):
                await session.add_items([{"role": "user", "content": "x"}, {"content": object()}])  # type: ignore[list-item]
            return await session.get_items()

    assert asyncio.run(program()) == []


def test_another_user_or_session_sees_and_clears_nothing_of_it():
    async def program() -> None:
        with temporary_vault() as vault:
            mine = AicoSession("s", vault, user="mia")
            await mine.add_items([{"role": "user", "content": "the key lies under the blue pot"}])
            for other in (AicoSession("s", vault, user="otto"), AicoSession("t", vault, user="mia")):
                assert (await other.get_items(), await other.pop_item()) == ([], None)
                await other.clear_session()
            assert len(await mine.get_items()) == 1

    asyncio.run(program())


def test_programs_that_add_and_pop_at_once_lose_and_double_nothing(tmp_path):
    async def program() -> tuple[list[Any], list[Any]]:
        async with aico.aio.open(tmp_path / "v", passphrase=PASSPHRASE, settings=cheap_settings()) as companion:
            sessions = [AicoSession("s", companion, user="mia") for _ in range(3)]
            await asyncio.gather(
                *(
                    session.add_items([{"n": n, "of": k}, {"n": -n, "of": k}])
                    for k, session in enumerate(sessions)
                    for n in range(1, 11)
                )
            )
            items = await sessions[0].get_items()
            popped = await asyncio.gather(*(session.pop_item() for session in sessions for _ in range(20)))
            return items, popped

    items, popped = asyncio.run(program())
    assert all(
        one["n"] == -other["n"] and one["of"] == other["of"] for one, other in zip(items[::2], items[1::2], strict=True)
    )
    assert sorted(map(repr, items)) == sorted(map(repr, popped))


def test_what_is_forgotten_is_gone_from_the_history():
    async def program() -> list[Any]:
        with temporary_vault() as vault:
            session = AicoSession("s", vault, user="mia")
            await session.add_items(
                [{"role": "user", "content": "I live in Lisbon"}, {"role": "user", "content": "I play the viola"}]
            )
            assert vault.memory.forget("mia", about="Lisbon").removed["items"] == 1
            return await session.get_items()

    assert [item["content"] for item in asyncio.run(program())] == ["I play the viola"]


def test_an_agent_goes_on_where_it_was_when_its_program_is_started_again(tmp_path):
    """The shape of the SDK's own example of sessions: only the session is another."""
    model = ScriptedModel("San Francisco", lambda seen: "California" if "San Francisco" in repr(seen) else "Where?")

    async def turn(text: str) -> str:
        async with aico.aio.open(tmp_path / "v", passphrase=PASSPHRASE, settings=cheap_settings()) as companion:
            agent = Agent(name="Assistant", instructions="Reply very concisely.", model=model)
            session = AicoSession("conversation_123", companion, user="mia")
            quiet = RunConfig(tracing_disabled=True)
            result = await Runner.run(agent, text, session=session, run_config=quiet)
            return str(result.final_output)

    assert asyncio.run(turn("What city is the Golden Gate Bridge in?")) == "San Francisco"
    assert asyncio.run(turn("What state is it in?")) == "California"


def test_a_session_of_nobody_is_refused():
    with temporary_vault() as vault:
        for nobody in ("", " "):
            with pytest.raises(InvalidInput, match="a user is named"):
                AicoSession("s", vault, user=nobody)


@pytest.mark.parametrize("session_id", ["", " ", "a\nb", "\ud83d", "s" * 4097])
def test_a_session_id_that_is_no_name_keeps_nothing(session_id):
    with temporary_vault() as vault, pytest.raises(InvalidInput):
        asyncio.run(AicoSession(session_id, vault, user="mia").add_items([{"role": "user"}]))


def test_half_a_character_anywhere_in_an_item_is_refused_with_all_that_came_with_it():
    async def talk(session):
        for half in ({"content": ["\ud83d"]}, {"\ud83d": 1}, {"content": float("nan")}):
            with pytest.raises(InvalidInput):
                await session.add_items([{"content": "whole"}, half])
        return await session.get_items()

    with temporary_vault() as vault:
        assert asyncio.run(talk(AicoSession("s", vault, user="mia"))) == []
