"""A program that awaits its vault, as a type checker sees it. Checked, never run."""

from datetime import UTC, datetime
from typing import assert_type

import aico
import aico.aio
from aico.backup import BackupInfo
from aico.data.facts import KeptFact


async def program() -> None:
    async with aico.aio.open("somewhere", passphrase="…") as companion:
        made = await companion.memory.record("mia", "I moved to Lisbon.", conversation="c1", at=datetime.now(UTC))
        assert_type(made, str)
        hits = await companion.memory.recall("mia", "where do I live?", limit=3, kinds=("message",))
        assert_type(hits, list[aico.Hit])
        receipt = await companion.memory.forget("mia", about="Lisbon")
        assert_type(await companion.run(receipt.verify), bool)
        assert_type(await companion.facts.get("mia", made), KeptFact)
        await companion.memory.record("mia", 7, conversation="c1")  # type: ignore[arg-type]
        await companion.memory.record("mia", "no conversation")  # type: ignore[call-arg]
    restored = await aico.aio.restore("a backup", "elsewhere", passphrase="…")
    assert_type(restored, BackupInfo)
    opened = await aico.aio.open(accept_older=True, approve_settings=True)
    assert_type(opened, aico.aio.AsyncVault)
    await aico.aio.open(accept=True)  # type: ignore[call-arg]
    await opened.close()
