"""Awaiting a vault: the same names and answers, and a call that is cancelled is done whole or not at all."""

import asyncio
import inspect
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

import aico
import aico.aio
from aico.aio import Bridge, Twin, awaited
from aico.errors import AccessDenied, InvalidInput, NotFound, StorageError, WrongPassphrase
from aico.testing import PASSPHRASE, cheap_settings, temporary_vault

WITHOUT_A_TWIN = {
    "dimension_here",
    "watch",  # it waits for others: a thread of one's own
    "get",  # a view itself
    "follow",
    "drop",
    "context",
    "connection",  # transactions belong to one thread
    "indexes",  # what recall reads; nobody calls it from outside
    "close",
    "ensure",
    "find",
    "find_active",
    "erase",
    "append",
    "adopt",
    "handler",  # these two wait for nothing, and are called as they are
    "insert_lines",
    "register",
    "tables",
    "catch_up",
    "holds_any",
    "lag",
    "recent",
    "meaning_of",
    "wake",
    "wake_if_behind",
    "wake_if_changed",
}
"""Of the sync classes: what other parts of the vault call, what never blocks, and what belongs to one thread."""


def opened(folder):
    return aico.aio.open(folder, passphrase=PASSPHRASE, settings=cheap_settings())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "vault"


def public(cls):
    return {
        name
        for name in dir(cls)
        if not name.startswith("_")
        and callable(getattr(cls, name))
        and not isinstance(inspect.getattr_static(cls, name), property)
    }


def test_every_part_of_a_vault_and_every_method_has_its_twin():
    with temporary_vault() as vault:
        bridge = Bridge()
        twin = aico.aio.AsyncVault(bridge, vault)
        asyncio.run(bridge.close(lambda: None))
        parts = {
            name
            for name, part in vars(vault).items()
            if not name.startswith("_") and type(part).__module__.startswith("aico.") and part is not vault.settings
        }
        assert parts - vars(twin).keys() - WITHOUT_A_TWIN == set(), "each part needs a twin in aico/aio.py"
        for name, part in {"vault": twin, **vars(twin)}.items():
            if isinstance(part, Twin):
                declared = {key for key, value in vars(type(part)).items() if isinstance(value, awaited)}
                missing = public(type(part.sync)) - declared - WITHOUT_A_TWIN
                assert missing == set(), f"{name}: each method needs its line in aico/aio.py"
                for key in declared:
                    sync = getattr(type(part.sync), key)
                    assert vars(type(part))[key].method is sync, f"{name}.{key} passes on to another method"
                    assert (
                        inspect.signature(getattr(part, key)).parameters.keys()
                        == inspect.signature(sync).parameters.keys()
                    )


def test_every_function_of_aico_has_its_twin_with_the_same_arguments():
    functions = [name for name in aico.__all__ if inspect.isfunction(getattr(aico, name))]
    assert functions == ["open", "restore"]
    for name in functions:
        sync, twin = getattr(aico, name), getattr(aico.aio, name)
        assert inspect.signature(twin).parameters == inspect.signature(sync).parameters


def test_opening_takes_what_aico_open_takes_and_a_backup_is_restored(folder, tmp_path):
    async def program():
        async with opened(folder) as companion:
            await companion.memory.record("mia", "I moved to Lisbon.", conversation="c1")
            made = await companion.backups.create(tmp_path / "backups")
        await aico.aio.restore(made.path, tmp_path / "back", passphrase=PASSPHRASE)
        with pytest.raises(InvalidInput):
            await aico.aio.restore(made.path, tmp_path / "back", passphrase=PASSPHRASE)
        (tmp_path / "back" / "config.toml").write_text("anchor_in_keyring = false\n")
        with pytest.raises(AccessDenied):
            await aico.aio.open(tmp_path / "back", passphrase=PASSPHRASE)
        async with aico.aio.open(
            tmp_path / "back", passphrase=PASSPHRASE, approve_settings=True, accept_older=True
        ) as back:
            return [moment.text for moment in await back.memory.recent("mia", "c1")]

    assert asyncio.run(program()) == ["I moved to Lisbon."]


def test_what_is_recorded_is_recalled_and_forgotten(folder):
    async def program():
        async with opened(folder) as companion:
            ids = await asyncio.gather(
                *(companion.memory.record("mia", f"I like lake number {n}.", conversation="c1") for n in range(30))
            )
            found = await companion.memory.recall("mia", "which lake?", limit=50)
            receipt = await companion.memory.forget("mia", about="lake")
            return ids, found, await companion.run(receipt.verify), await companion.memory.recall("mia", "lake")

    ids, found, verified, left = asyncio.run(program())
    assert {hit.id for hit in found} == set(ids)
    assert (verified, left) == (True, [])


def test_what_waits_for_nothing_is_there_as_it_is(folder):
    async def program():
        async with opened(folder) as companion:
            companion.tasks.register("greet", lambda run: None)
            with pytest.raises(InvalidInput, match="registered already"):
                companion.sync.tasks.register("greet", lambda run: None)
            handler = companion.logs.handler(level="WARNING")
            line = {"name": "app", "msg": "a warning", "levelno": logging.WARNING, "levelname": "WARNING"}
            handler.handle(logging.makeLogRecord(line))
            await companion.run(handler.flush)
            lines = [line.message for line in await companion.logs.query_logs(limit=None)]
            sync = companion.sync
            assert (companion.vault_id, companion.format) == (sync.vault_id, sync.format)
            return lines, await companion.keys.slots()

    lines, slots = asyncio.run(program())
    assert ("a warning" in lines, slots) == (True, ["passphrase"])


def test_errors_are_those_of_the_sync_vault(folder):
    async def program():
        async with opened(folder) as companion:
            with pytest.raises(InvalidInput):
                await companion.memory.record("mia", "", conversation="c1")
            with pytest.raises(NotFound):
                await companion.memory.forget("nobody", about="x")
        with pytest.raises(StorageError):
            await companion.memory.recall("mia", "x")
        await companion.close()
        with pytest.raises(WrongPassphrase):
            async with aico.aio.open(folder, passphrase="another", settings=cheap_settings()):
                raise AssertionError

    asyncio.run(program())


def test_the_event_loop_goes_on_while_a_call_runs():
    async def program():
        bridge, gate = Bridge(), threading.Event()
        waiting = asyncio.create_task(bridge.run(gate.wait, 60))
        await asyncio.sleep(0)
        gate.set()  # could not be reached if the call had blocked the loop
        assert await waiting
        await bridge.close(lambda: None)

    asyncio.run(program())


def test_a_call_that_has_not_begun_is_taken_back_and_one_that_has_begun_is_waited_for():
    async def program():
        bridge, begun, gate, done = Bridge(threads=1), threading.Event(), threading.Event(), []

        def work():
            begun.set()
            gate.wait(60)
            done.append("first")

        first = asyncio.create_task(bridge.run(work))
        second = asyncio.create_task(bridge.run(done.append, "second"))
        await asyncio.to_thread(begun.wait, 60)
        second.cancel()
        first.cancel()
        await asyncio.wait({second})
        for _ in range(3):  # however often it is asked
            first.cancel()
            await asyncio.sleep(0)
        assert not first.done()
        gate.set()
        await asyncio.wait({first})
        assert first.cancelled()
        assert second.cancelled()
        assert done == ["first"]
        await bridge.close(lambda: None)

    asyncio.run(program())


@pytest.mark.parametrize("seed", range(4))
def test_cancelled_at_random_moments_a_message_is_there_whole_or_not_at_all(folder, seed):
    random, batch = Random(seed), 20

    async def write(companion, number):
        messages = [aico.Message(f"part {part} of {number}", conversation=f"c{number}") for part in range(batch)]
        await companion.memory.record_many("mia", messages)

    async def program():
        async with opened(folder) as companion:
            acknowledged = []
            for number in range(30):
                task = asyncio.create_task(write(companion, number))
                await asyncio.sleep(random.choice([0, 0, 0.0005, 0.002, 0.02]))
                task.cancel()
                try:
                    await task
                    acknowledged.append(number)
                except asyncio.CancelledError:
                    pass
                # Settled: what is there now is all that will ever be there.
                there = len(await companion.memory.recent("mia", f"c{number}", limit=99))
                assert there in (0, batch)
                assert there == batch or number not in acknowledged
            return [len(await companion.memory.recent("mia", f"c{number}", limit=99)) for number in range(30)]

    counts = asyncio.run(program())
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        assert [len(vault.memory.recent("mia", f"c{number}", limit=99)) for number in range(30)] == counts
        assert not [finding for finding in vault.doctor() if finding.ok is False]


def test_cancelled_while_it_is_being_opened_a_vault_is_closed_again(folder, monkeypatch):
    closed = []
    close = aico.Vault.close
    monkeypatch.setattr(aico.Vault, "close", lambda vault: (closed.append(vault), close(vault)))

    async def program():
        opening = asyncio.ensure_future(opened(folder))
        await asyncio.sleep(0.001)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    asyncio.run(program())
    assert len(closed) == folder.exists()


def test_closing_waits_for_the_calls_under_way(folder):
    async def program():
        companion = await opened(folder)
        writing = [
            asyncio.create_task(companion.memory.record("mia", f"note {n}", conversation="c1")) for n in range(20)
        ]
        await asyncio.sleep(0)
        await companion.close()
        return await asyncio.gather(*writing)

    ids = asyncio.run(program())
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        assert {moment.id for moment in vault.memory.recent("mia", "c1", limit=50)} == set(ids)


def test_a_vault_may_be_used_from_several_event_loops_one_after_the_other(folder):
    companion = asyncio.run(opened(folder)._open())
    with ThreadPoolExecutor(1) as other:
        other.submit(asyncio.run, companion.memory.record("mia", "hello", conversation="c")).result()
    assert len(asyncio.run(companion.memory.recent("mia", "c"))) == 1
    asyncio.run(companion.close())
