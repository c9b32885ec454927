"""Several processes on one vault, as companion, command line and album are in a normal day."""

import json
import subprocess
import sys
import time

import pytest

from aico.testing import temporary_vault

WRITER = """
import json, sys, time, aico
from aico.testing import PASSPHRASE, cheap_settings
folder, name, count, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
ids = []
with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
    for number in range(count):
        ids.append(vault.memory.record("nell", f"{name} says thing {number}", conversation=name))
        time.sleep(seconds / count)
print(json.dumps(ids))
"""


def run_side_by_side(*, messages: int, seconds: float) -> None:
    with temporary_vault() as vault:
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(vault.folder), name, str(messages), str(seconds)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name in ("kasimir", "piet")
        ]
        recalls = 0
        while any(writer.poll() is None for writer in writers):
            vault.memory.recall("nell", "kasimir says thing 7")
            recalls += 1
            time.sleep(0.002)
        outputs = [writer.communicate() for writer in writers]
        assert [(writer.returncode, errors) for writer, (_, errors) in zip(writers, outputs, strict=True)] == [
            (0, "")
        ] * 2
        ids = {id_ for printed, _ in outputs for id_ in json.loads(printed)}
        kept = {
            moment.id
            for name in ("kasimir", "piet")
            for moment in vault.memory.recent("nell", name, limit=5 * messages)
        }
        assert kept == ids
        assert len(ids) == 2 * messages
        found = {hit.id for hit in vault.memory.recall("nell", "says thing", limit=3 * messages)}
        assert found <= ids
        assert recalls > 10
        assert (
            vault.memory.recall("nell", f"piet thing {messages - 1}", limit=1)[0].text
            == f"piet says thing {messages - 1}"
        )


def test_two_processes_record_while_a_third_recalls_and_nothing_is_lost():
    run_side_by_side(messages=300, seconds=1.0)


@pytest.mark.slow
def test_two_processes_record_for_a_minute_while_a_third_recalls():
    run_side_by_side(messages=1500, seconds=60.0)
