"""JSON Lines as people really have them."""

import io
import json
import pickle
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aico.errors import AicoError, NotFound
from aico.portability.jsonl import BadRecord, import_jsonl
from aico.testing import temporary_vault

GOOD = {"text": "hello", "conversation": "c", "at": "2026-05-08T12:00:00+02:00"}


@pytest.fixture
def memory():
    with temporary_vault() as vault:
        yield vault.memory


def lines(*records) -> io.BytesIO:
    return io.BytesIO(b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in records))


def test_every_key_of_the_api_is_kept(memory):
    report = import_jsonl(memory, "nell", lines({**GOOD, "role": "assistant", "speaker": "Kasimir", "source_id": "t1"}))
    assert (report.added, report.repeated, report.bad) == (1, 0, [])
    [moment] = memory.recent("nell", "c")
    assert (moment.text, moment.role, moment.speaker, moment.source_id) == ("hello", "assistant", "Kasimir", "t1")
    assert moment.at.isoformat() == GOOD["at"]


def test_a_second_import_adds_nothing_and_equal_lines_are_kept_apart(memory):
    twice = lines(GOOD, GOOD, {**GOOD, "text": "bye"})
    assert import_jsonl(memory, "nell", twice).added == 3
    twice.seek(0)
    assert (report := import_jsonl(memory, "nell", twice)).repeated == 3
    assert report.added == 0
    assert [moment.text for moment in memory.recent("nell", "c")] == ["hello", "hello", "bye"]


def test_spacing_and_order_of_keys_do_not_make_a_line_another(memory):
    import_jsonl(memory, "nell", lines(GOOD))
    shuffled = b'{ "at": "2026-05-08T12:00:00+02:00",  "conversation":"c", "text": "hello" }'
    assert import_jsonl(memory, "nell", lines(shuffled)).repeated == 1


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"text": "x", "conversation": "c"}, "at"),
        ({**GOOD, "at": "2026-05-08T12:00:00"}, "at"),
        ({**GOOD, "at": "yesterday"}, "at"),
        ({**GOOD, "text": 7}, "text"),
        ({**GOOD, "text": "   "}, "text"),
        ({**GOOD, "conversation": ""}, "conversation"),
        ({**GOOD, "speaker": ["a"]}, "speaker"),
        (json.dumps({**GOOD, "text": "half \ud83d"}).encode(), ""),
        (b"{ not json", ""),
        (b"[1, 2]", ""),
        (b"\xff\xfe\x00", ""),
    ],
)
def test_a_bad_line_is_reported_by_number_and_field_and_those_before_it_are_kept(memory, bad, field):
    with pytest.raises(BadRecord) as caught:
        import_jsonl(memory, "nell", lines(GOOD, b"", bad, {**GOOD, "text": "after"}))
    assert (caught.value.line, caught.value.field) == (3, field)
    assert [moment.text for moment in memory.recent("nell", "c")] == ["hello"]
    report = import_jsonl(memory, "nell", lines(GOOD, b"", bad, {**GOOD, "text": "after"}), skip_bad=True)
    assert (report.added, report.repeated, [(one.line, one.field) for one in report.bad]) == (1, 1, [(3, field)])


def test_a_line_too_long_and_a_disk_that_fails_keep_the_lines_before(memory, monkeypatch):
    monkeypatch.setattr("aico.portability.jsonl.LINE_MAX_BYTES", 200)
    with pytest.raises(BadRecord, match="longer than"):
        import_jsonl(memory, "nell", lines(GOOD, {**GOOD, "text": "x" * 300}))
    assert len(memory.recent("nell", "c")) == 1

    class Failing(io.BytesIO):
        def readline(self, size=-1):
            if self.tell() > 0:
                raise OSError("the disk is gone")
            return super().readline(size)

    with pytest.raises(OSError, match="gone"):
        import_jsonl(memory, "nell", Failing(lines({**GOOD, "text": "second"}).getvalue()))
    assert len(memory.recent("nell", "c")) == 2


def test_keys_that_mean_nothing_are_counted_and_not_lost_in_silence(memory):
    report = import_jsonl(memory, "nell", lines({**GOOD, "mood": "sunny"}, {**GOOD, "mood": "rain", "souce_id": "t"}))
    assert report.ignored_fields == {"mood": 2, "souce_id": 1}


def test_a_byte_order_mark_and_a_missing_last_line_break_do_no_harm(memory):
    raw = b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n" + json.dumps({**GOOD, "text": "last"}).encode()
    assert import_jsonl(memory, "nell", io.BytesIO(raw)).added == 2


def test_what_was_forgotten_stays_forgotten_unless_asked(memory):
    import_jsonl(memory, "nell", lines(GOOD))
    memory.forget("nell", everything=True)
    assert import_jsonl(memory, "nell", lines(GOOD)).forgotten == 1
    assert memory.recent("nell", "c") == []
    assert import_jsonl(memory, "nell", lines(GOOD), return_forgotten=True).added == 1
    assert len(memory.recent("nell", "c")) == 1


def test_an_import_killed_midway_goes_on_and_is_whole(tmp_path):
    file = tmp_path / "chats.jsonl"
    file.write_text("".join(json.dumps({**GOOD, "text": f"turn {n % 9000}"}) + "\n" for n in range(20_000)))
    program = (
        "import sys, aico\nfrom aico.testing import PASSPHRASE, cheap_settings\n"
        "with aico.open(sys.argv[1], passphrase=PASSPHRASE, settings=cheap_settings()) as vault:\n"
        "    print('open', flush=True); vault.import_(sys.argv[2], 'nell')\n"
    )
    with temporary_vault() as vault:
        running = subprocess.Popen(
            [sys.executable, "-c", program, str(vault.folder), str(file)], stdout=subprocess.PIPE
        )
        running.stdout.readline()
        while not vault.memory.recent("nell", "c", limit=1):
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        running.wait()
        running.stdout.close()
        kept = len(vault.memory.recent("nell", "c", limit=30_000))
        report = vault.import_(file, "nell")
        assert (report.repeated, report.added) == (kept, 20_000 - kept)
        assert len(vault.memory.recent("nell", "c", limit=30_000)) == 20_000
        assert 0 < kept < 20_000
        vault.connection.verify()


def test_a_missing_file_is_named():
    with temporary_vault() as vault, pytest.raises(NotFound, match="nothing was imported"):
        vault.import_("no such file", "nell")


@settings(max_examples=150, deadline=None)
@given(raw=st.binary(max_size=200) | st.text(max_size=80).map(lambda t: b'{"text": "' + t.encode("utf-8", "replace")))
def test_any_bytes_are_a_report_or_a_typed_error(memory_for_fuzz, raw):
    try:
        import_jsonl(memory_for_fuzz, "nell", io.BytesIO(raw))
    except AicoError as exc:
        assert isinstance(exc, BadRecord)
    assert import_jsonl(memory_for_fuzz, "nell", io.BytesIO(raw), skip_bad=True).added == 0


@pytest.fixture(scope="module")
def memory_for_fuzz():
    with temporary_vault() as vault:
        yield vault.memory


def test_a_bad_record_crosses_processes():
    bad = pickle.loads(pickle.dumps(BadRecord(3, "at", "it is missing")))
    assert (bad.line, bad.field, str(bad)) == (3, "at", "line 3, field at: it is missing")
