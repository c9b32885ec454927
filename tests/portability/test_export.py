"""One person's memory out, and back in: the same bytes, the same ids, and the forgotten stays forgotten."""

import io
import json
import os
import stat
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aico
from aico.data.audit_log import Action
from aico.data.libsql.registry import SchemaRegistry
from aico.errors import Forgotten, FormatTooNew, InvalidInput, NotFound
from aico.portability.records import KINDS, NOT_EXPORTED
from aico.portability.report import BadRecord
from aico.testing import PASSPHRASE, FixedClock, cheap_settings, temporary_vault

AT = datetime.fromisoformat("2026-05-08T19:30:00.000001+02:00")
DAY = timedelta(days=1)


def exported(vault, user="mia", **how):
    out = io.BytesIO()
    vault.export(out, user, **how)
    return out.getvalue()


def records(raw):
    return [json.loads(line) for line in raw.splitlines()]


def fill(vault, user="mia"):
    memory = vault.memory
    memory.record(user, "I moved to Lisbon.\n# Not a heading", conversation="c1", at=AT, source_id="m1", speaker="Mia")
    kept = memory.record(user, "No source here.", conversation="c1", role="assistant")
    memory.record(user, "A secret that goes.", conversation="c1", source_id="gone")
    old = memory.remember(user, "Mia lives in Porto", source=kept, confidence=0.1 + 0.2, valid_from=AT)
    memory.remember(user, "Mia lives in Lisbon", category="home", supersedes=old)
    memory.forget(user, about="secret")
    vault.preferences.set(user, "tone", {"a": 1})
    vault.conversations.set_title(user, "c1", "The move")
    vault.facts.tag(user, old, "homes")
    vault.facts.note(user, old, "while it lasted")
    vault.facts.visit(user, old)
    vault.facts.propose(user, "Mia likes the sea.", message=kept, model="a model")
    vault.feedback.record(user, "rating", "message_quality", message=kept, value=0.5)


@pytest.fixture
def vault():
    with temporary_vault() as vault:
        fill(vault)
        vault.memory.record("tom", "Somebody else's.", conversation="c1", source_id="m1")
        yield vault


def test_out_into_an_empty_vault_and_out_again_is_the_same_bytes(vault):
    raw = exported(vault)
    with temporary_vault() as other:
        report = other.import_(io.BytesIO(raw))
        assert (report.format, report.repeated, report.forgotten, report.bad) == ("aico", 0, 0, [])
        assert report.added == sum(report.by_kind.values()) == len(records(raw)) - 2
        assert exported(other) == raw
        assert other.memory.recent("mia", "c1") == vault.memory.recent("mia", "c1")
        assert [hit.id for hit in other.memory.recall("mia", "Lisbon")] == [
            hit.id for hit in vault.memory.recall("mia", "Lisbon")
        ]
        assert other.import_(io.BytesIO(raw)).added == 0
        assert exported(other) == raw


def test_ids_go_on_where_they_were_and_the_forgotten_stays_forgotten(vault, tmp_path):
    raw = exported(vault)
    settings = cheap_settings()
    with aico.open(tmp_path / "v", passphrase=PASSPHRASE, settings=settings) as other:
        other.import_(io.BytesIO(raw))
    with aico.open(tmp_path / "v", passphrase=PASSPHRASE, settings=settings) as other:  # the naming key was kept
        again = other.memory.record("mia", "I moved to Lisbon.", conversation="c1", source_id="m1")
        assert again == vault.memory.recent("mia", "c1")[0].id
        assert other.status().rows["messages"] == 2
        with pytest.raises(aico.errors.Forgotten):
            other.memory.record("mia", "A secret that goes.", conversation="c1", source_id="gone")
        assert [user.name for user in other.users.list_profiles()] == ["mia"]
        assert all(finding.ok is not False for finding in other.doctor())


def test_an_export_holds_one_person_and_nothing_of_another(vault):
    raw = exported(vault)
    assert b"Somebody else" not in raw and b'"tom"' not in raw
    assert b"secret" not in raw
    kinds = [record.get("kind") for record in records(raw)]
    assert kinds[0] is None and kinds[1] == "user" and kinds[-1] == "end"
    assert set(kinds[1:-1]) == {
        "user",
        "conversation",
        "message",
        "fact",
        "fact_source",
        "fact_history",
        "preference",
        "mark",
        "tag",
        "visit",
        "feedback",
        "erasure",
    }
    first = next(record for record in records(raw) if record.get("kind") == "message")
    assert first["at"] == "2026-05-08T19:30:00.000001+02:00"
    assert "user_id" not in first and "row_id" not in first


def test_a_second_person_of_the_same_vault_comes_in_the_same_way(vault):
    mia, tom = exported(vault, "mia"), exported(vault, "tom")
    with temporary_vault() as other:
        other.import_(io.BytesIO(mia))
        other.import_(io.BytesIO(tom))
        assert (exported(other, "mia"), exported(other, "tom")) == (mia, tom)


def test_into_a_vault_with_content_it_merges_without_duplicates(vault):
    raw = exported(vault)
    with temporary_vault() as other:
        other.memory.record("mia", "I moved to Lisbon.", conversation="c1", source_id="m1")
        other.memory.record("mia", "Only here.", conversation="c2")
        report = other.import_(io.BytesIO(raw))
        assert report.repeated == 3  # the user, the conversation, the message of the same source
        assert sorted(m.text for m in other.memory.recent("mia", "c1")) == ["I moved to Lisbon.", "No source here."]
        assert [user.name for user in other.users.list_profiles()] == ["mia"]
        [fact] = other.memory.recall("mia", "who lives in Lisbon", kinds=("fact",))
        assert fact.text == "Mia lives in Lisbon"
        before = exported(other)
        assert other.import_(io.BytesIO(raw)).added == 0
        assert exported(other) == before
        drawn = other.connection.fetch_one("SELECT source_message_id FROM facts WHERE source_message_id IS NOT NULL")
        assert other.connection.fetch_one("SELECT 1 FROM messages WHERE id = ?", tuple(drawn))


def test_it_can_come_back_under_another_name(vault):
    vault.connection.execute("UPDATE users SET full_name = 'Maria Silva' WHERE name = 'mia'")
    raw = exported(vault)
    with temporary_vault() as other:
        assert other.import_(io.BytesIO(raw), "maria").bad == []
        assert other.users.list_profiles()[0].full_name == "Maria Silva"
        assert [user.name for user in other.users.list_profiles()] == ["maria"]
        assert len(other.memory.recent("maria", "c1")) == 2
        other.memory.record("maria", "x", conversation="c1", source_id="m1")
        assert len(other.memory.recent("maria", "c1")) == 2


def test_what_was_forgotten_here_is_not_brought_back_by_an_older_export(vault):
    raw = exported(vault)
    vault.memory.forget("mia", about="Lisbon")
    report = vault.import_(io.BytesIO(raw))
    assert report.forgotten == 3  # the message, the fact, and the note in its history
    assert report.added == 0
    assert vault.memory.recall("mia", "Lisbon") == []
    assert vault.import_(io.BytesIO(raw), return_forgotten=True).added == 3


def test_an_erasure_does_not_make_what_is_here_forgotten():
    with temporary_vault() as vault:
        vault.memory.record("mia", "Stays.", conversation="c", source_id="s")
        before = exported(vault)
        vault.memory.forget("mia", everything=True)
        after = exported(vault)
        with temporary_vault() as other:
            other.import_(io.BytesIO(before))
            other.import_(io.BytesIO(after))
            assert [moment.text for moment in other.memory.recent("mia", "c")] == ["Stays."]
            assert other.memory.record("mia", "Stays.", conversation="c", source_id="s")


def test_an_export_that_claims_the_id_of_somebody_else_does_not_get_it(vault):
    raw, tom = exported(vault), records(exported(vault, "tom"))[1]["id"]
    lines = raw.splitlines(keepends=True)
    lines[1] = json.dumps({**json.loads(lines[1]), "id": tom}).encode() + b"\n"
    before = exported(vault, "tom")
    vault.import_(io.BytesIO(b"".join(lines)))
    assert exported(vault, "tom") == before


BAD_LINES = [
    (b"not json", ""),
    (b'{"kind":"message","id":"00"}', "id"),
    (b'{"kind":"message","id":"' + b"ab" * 16 + b'"}', "conversation_id"),
    (
        b'{"kind":"fact_history","id":"%b","fact_id":"%b","change":"x","at":"2026-05-08T12:00:00"}'
        % (b"ab" * 16, b"cd" * 16),
        "at",
    ),
    (
        b'{"kind":"erasure","id":"%b","receipt_id":"%b","of":7,"at":"2026-05-08T12:00:00Z"}' % (b"ab" * 16, b"cd" * 16),
        "of",
    ),
    (b"[" * 5000, ""),
]


@pytest.mark.parametrize(("bad", "field"), BAD_LINES)
def test_a_bad_line_is_named_and_those_before_it_are_kept(vault, bad, field):
    lines = exported(vault).splitlines()
    lines.insert(4, bad)
    raw = b"\n".join(lines)
    with temporary_vault() as other:
        with pytest.raises(BadRecord) as caught:
            other.import_(io.BytesIO(raw))
        assert (caught.value.line, caught.value.field) == (5, field)
        assert other.status().rows["messages"] == 1
        report = other.import_(io.BytesIO(raw), skip_bad=True)
        assert other.status().rows["messages"] == 2
        assert report.bad[0].line == 5


def test_a_cut_export_is_noticed_and_the_whole_one_adds_the_rest(vault):
    raw = exported(vault)
    with temporary_vault() as other:
        with pytest.raises(BadRecord, match="not whole"):
            other.import_(io.BytesIO(b"".join(raw.splitlines(keepends=True)[:-3])))
        other.import_(io.BytesIO(raw))
        assert exported(other) == raw


@pytest.mark.parametrize("end", [b'"many"', b"[1]", b"null", b"1e3", b"-1"])
def test_a_last_line_that_makes_no_sense_is_a_file_that_is_not_whole(vault, end):
    raw = exported(vault).rpartition(b'"records":')[0] + b'"records":' + end + b"}"
    with temporary_vault() as other, pytest.raises(BadRecord, match="not whole"):
        other.import_(io.BytesIO(raw))


def test_a_newer_export_and_a_kind_not_known_are_told(vault):
    raw = exported(vault)
    with temporary_vault() as other:
        with pytest.raises(FormatTooNew):
            other.import_(io.BytesIO(raw.replace(b'"aico_export":1', b'"aico_export":2', 1)))
        strange = raw.replace(b'{"kind":"end"', b'{"kind":"hologram","id":"x"}\n{"kind":"end"').replace(
            b'"kind":"user",', b'"kind":"user","shoe_size":39,'
        )
        report = other.import_(io.BytesIO(strange), skip_bad=True)
        assert report.left_out == {"records of a kind this release does not know": 1}
        assert report.ignored_fields == {"shoe_size": 1}
        assert "not whole" in str(report.bad[0])


def test_the_file_is_its_owners_alone_and_takes_no_other_files_place(vault, tmp_path):
    path = tmp_path / "mia.jsonl"
    before = os.umask(0)
    try:
        report = vault.export(path, "mia")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert report.size_bytes == path.stat().st_size
    assert report.records["message"] == 2
    with pytest.raises(InvalidInput, match="never overwrites"):
        vault.export(path, "mia")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match="never overwrites"):
        vault.export(tmp_path / "link.jsonl", "mia")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link.jsonl", "mia.jsonl"]


def test_an_export_that_fails_leaves_nothing_readable_behind(vault, tmp_path, monkeypatch):
    def fails(done):
        raise KeyboardInterrupt

    monkeypatch.setattr("aico.portability.export.PROGRESS_EVERY", 1)
    with pytest.raises(KeyboardInterrupt):
        vault.export(tmp_path / "mia.jsonl", "mia", on_progress=fails)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mia.jsonl.part").write_text("of another export")
    with pytest.raises(InvalidInput, match="did not end"):
        vault.export(tmp_path / "mia.jsonl", "mia")
    assert (tmp_path / "mia.jsonl.part").read_text() == "of another export"


def test_nobody_is_exported_who_is_not_there(vault, tmp_path):
    with pytest.raises(NotFound):
        vault.export(tmp_path / "x", "nobody")
    with pytest.raises(InvalidInput):
        vault.export(tmp_path / "x", "mia", format="pdf")
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_of_one_moment_while_others_write(vault):
    class Writing(io.BytesIO):
        def write(self, data):
            vault.memory.record("mia", "meanwhile", conversation="c9")
            return super().write(data)

    out = Writing()
    before = exported(vault)
    vault.export(out, "mia")
    assert out.getvalue() == before


def test_no_table_of_a_persons_memory_is_overlooked():
    captured = {
        table
        for schema in SchemaRegistry.get_core_schemas()
        for step in schema.definitions.values()
        for table in step.captures
    }
    assert captured == {kind.table for kind in KINDS} | NOT_EXPORTED.keys()


def test_a_column_that_came_later_is_exported_and_older_lines_get_its_default(vault):
    before = exported(vault)
    vault.connection.execute("ALTER TABLE facts ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'")
    vault.connection.execute("UPDATE facts SET mood = 'glad' WHERE superseded_at IS NULL")
    raw = exported(vault)
    with temporary_vault() as other:
        other.connection.execute("ALTER TABLE facts ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'")
        other.import_(io.BytesIO(raw))
        assert exported(other) == raw
    with temporary_vault() as older:
        assert older.import_(io.BytesIO(raw)).ignored_fields == {"mood": 3}
    with temporary_vault() as newer:
        newer.connection.execute("ALTER TABLE facts ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'")
        newer.import_(io.BytesIO(before))
        assert {row["mood"] for row in newer.connection.fetch_all("SELECT mood FROM facts")} == {"calm"}


def test_markdown_is_for_people_and_no_text_passes_for_a_heading(vault):
    page = exported(vault, format="markdown").decode()
    assert page.startswith("# The memory of mia\n")
    assert "## The move" in page
    assert "**Mia**, 2026-05-08 19:30 +0200\n\n> I moved to Lisbon.\n> # Not a heading" in page
    assert "Mia lives in Porto *(since" in page and "no longer believed" in page
    assert "secret" not in page


texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20).filter(lambda text: text.strip())
names = st.text("abcéñ #*", min_size=1, max_size=4).filter(lambda name: name.strip())
instants = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))
steps = st.lists(
    st.tuples(st.just("record"), texts, names, instants, st.none() | names, st.none() | names)
    | st.tuples(st.just("remember"), texts, st.none() | names, st.floats(0, 1))
    | st.tuples(st.just("forget"), names),
    max_size=12,
)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(steps=steps)
def test_any_life_comes_back_as_it_was(steps):
    with temporary_vault() as vault:
        vault.memory.record("zoë", "first", conversation="start")
        for step in steps:
            try:
                live(vault.memory, *step)
            except InvalidInput:  # what was forgotten stays so
                continue
        raw = exported(vault, "zoë")
        with temporary_vault() as other:
            other.import_(io.BytesIO(raw))
            assert exported(other, "zoë") == raw


def live(memory, verb, *given):
    if verb == "record":
        text, conversation, at, source_id, speaker = given
        memory.record("zoë", text, conversation=conversation, at=at, source_id=source_id, speaker=speaker)
    elif verb == "remember":
        memory.remember("zoë", given[0], category=given[1], confidence=given[2])
    else:
        memory.forget("zoë", conversation=given[0])


def test_an_export_cannot_name_one_person_and_be_restored_into_the_memory_of_another(vault):
    lines = exported(vault, "tom").splitlines()
    header, planted = (
        records(lines[0])[0],
        next(one for one in records(b"\n".join(lines)) if one.get("kind") == "message"),
    )
    header["user"] = "eve"
    planted |= {"id": "ab" * 16, "text": "Planted by Eve.", "position": 99}
    del planted["source_id"]
    hostile = b"\n".join([json.dumps(header).encode(), lines[1], json.dumps(planted).encode(), b""])
    for user in (None, "eve"):
        vault.import_(io.BytesIO(hostile), user, skip_bad=True)
        assert [moment.text for moment in vault.memory.recent("tom", "c1")] == ["Somebody else's."]


@pytest.mark.parametrize("value", [10**400, -(10**400), 1 << 64, True, [], "1"], ids=lambda value: repr(value)[:8])
def test_a_number_that_no_column_takes_is_a_bad_line_and_no_accident(vault, value):
    hostile = [one | {"confidence": value} if one.get("kind") == "fact" else one for one in records(exported(vault))]
    raw = b"\n".join(json.dumps(one).encode() for one in hostile)
    with temporary_vault() as other:
        report = other.import_(io.BytesIO(raw), skip_bad=True)
        assert report.bad == [] if value == 1 << 64 else {bad.field for bad in report.bad} == {"confidence"}


def test_the_audit_log_says_that_somebody_was_exported_and_nothing_of_what_was(vault):
    exported(vault)
    exported(vault, format="markdown")
    with pytest.raises(NotFound):
        exported(vault, "nobody")
    entries = vault.audit_log.entries(action=Action.EXPORTED)
    assert [entry.user_id for entry in entries] == [vault.users.find("mia").hex()] * 2


def test_an_export_that_hangs_rows_on_somebody_elses_memory_is_counted_and_changes_nothing(vault):
    """Whoever has an export of the vault knows every id that a name of anybody gives."""
    lines = [one for one in exported(vault).splitlines() if b'"end"' not in one]
    tom = vault.users.find("tom")
    [message] = [
        row["id"].hex() for row in vault.connection.fetch_all("SELECT id FROM messages WHERE user_id = ?", (tom,))
    ]
    [conversation] = [
        row["id"].hex() for row in vault.connection.fetch_all("SELECT id FROM conversations WHERE user_id = ?", (tom,))
    ]
    at = "2026-05-08T12:00:00+00:00"
    planted = [
        {"kind": "message", "id": "a1" * 16, "conversation_id": conversation, "role": "user", "text": "x", "at": at}
        | {"position": 1},
        {"kind": "tag", "id": "a2" * 16, "owner_id": message, "tag": "planted"},
        {"kind": "mark", "id": "a3" * 16, "owner_id": message, "favourite": True, "note": "planted"},
        {"kind": "visit", "id": "a4" * 16, "owner_id": message, "at": at},
        {"kind": "fact_source", "id": "a5" * 16, "fact_id": "a6" * 16, "message_id": message},
        {"kind": "feedback", "id": "a7" * 16, "of": "signal", "category": "x", "subject": "message", "at": at}
        | {"subject_id": message, "payload": "{}"},
        {"kind": "merged", "id": "a8" * 16, "into_id": message, "of": "message", "at": at},
        {"kind": "merged", "id": message, "into_id": "a9" * 16, "of": "message", "at": at},
        {"kind": "erasure", "id": message, "receipt_id": "aa" * 16, "of": "message", "at": at},
    ]
    raw = b"\n".join([*lines, *(json.dumps(one).encode() for one in planted), b""])
    before = exported(vault, "tom"), exported(vault)
    report = vault.import_(io.BytesIO(raw), skip_bad=True)
    assert report.left_out["records about another person's memory"] == len(planted)
    assert (exported(vault, "tom"), exported(vault)) == before


def test_nobody_can_make_another_persons_memories_forgotten_or_merged_before_they_are_there(vault):
    tom = vault.users.find("tom")
    conversation = vault._store.natural_ids.conversation(tom, "later")
    message = vault._store.natural_ids.message(conversation, "m1").hex()
    at = "2026-05-08T12:00:00+00:00"
    planted = [
        {"kind": "erasure", "id": message, "receipt_id": "aa" * 16, "of": "message", "at": at},
        {"kind": "merged", "id": conversation.hex(), "into_id": "ab" * 16, "of": "conversation", "at": at},
    ]
    lines = [one for one in exported(vault).splitlines() if b'"end"' not in one]
    vault.import_(io.BytesIO(b"\n".join([*lines, *(json.dumps(one).encode() for one in planted)])), skip_bad=True)
    recorded = vault.memory.record("tom", "It is here.", conversation="later", source_id="m1")
    assert [moment.text for moment in vault.memory.recent("tom", "later")] == ["It is here."]
    assert vault.memory.forget("tom", id=recorded).verify()
    with pytest.raises(Forgotten):
        vault.memory.record("tom", "It is here.", conversation="later", source_id="m1")


@pytest.mark.parametrize("other_name", [None, "otto"])
def test_what_was_merged_stays_merged_when_an_older_export_comes_back(other_name):
    with temporary_vault(clock=FixedClock()) as vault:
        for name, text in (("a", "One."), ("b", "Two."), ("b", "One.")):
            vault.memory.record("mia", text, conversation=name, source_id=text)
        vault.album.tag("mia", vault.memory.recent("mia", "b")[-1].id, "seen")
        older, user = exported(vault), other_name or "mia"
        vault.import_(io.BytesIO(older), other_name)
        vault.conversations.merge(user, keep="a", drop="b")
        once = [moment.text for moment in vault.memory.recent(user, "a")]
        assert sorted(once) == ["One.", "Two."]
        vault.import_(io.BytesIO(older), other_name)
        vault.memory.record(user, "Three.", conversation="b")
        assert [moment.text for moment in vault.memory.recent(user, "b")] == [*once, "Three."]
        assert [(one.name, one.messages) for one in vault.conversations.list(user)] == [("a", 3)]
        assert [moment.text for moment in vault.album.messages(user, tag="seen")] == ["One."]
        [kept] = [moment.id for moment in vault.memory.recent(user, "a") if moment.text == "One."]
        vault.memory.forget(user, id=kept)
        vault.import_(io.BytesIO(older), other_name)
        assert [moment.text for moment in vault.memory.recent(user, "a")] == ["Two.", "Three."]
        assert vault.album.tags(user) == []


def test_a_conversation_that_began_anew_is_not_merged_by_an_older_export():
    with temporary_vault(clock=FixedClock()) as vault:
        for name in "ab":
            vault.memory.record("mia", f"Of {name}.", conversation=name)
        vault.conversations.merge("mia", keep="a", drop="b")
        older = exported(vault)
        vault.memory.forget("mia", conversation="a")
        vault.memory.record("mia", "Anew.", conversation="b")
        vault.import_(io.BytesIO(older))
        vault.memory.record("mia", "And on.", conversation="b")
        assert [moment.text for moment in vault.memory.recent("mia", "b")] == ["Anew.", "And on."]
        assert vault.conversations.get("mia", "b").messages == 2


HOSTILE_VALUES = [
    ("preference", "value", "gentle"),
    ("preference", "value", "1e400"),
    ("preference", "value", "[" * 5000 + "]" * 5000),
    ("feedback", "payload", "[1]"),
    ("feedback", "payload", "{"),
    ("item", "value", "{'a': 1}"),
    ("item", "texts", '"a text"'),
    ("item", "texts", "[1]"),
    ("item", "namespace", "[[["),
    ("item", "namespace", "[]"),
    ("item", "namespace", '["notes", 1]'),
    ("item", "ttl_us", 1 << 62),
    ("item", "ttl_us", -1),
]


@pytest.mark.parametrize(("kind", "field", "value"), HOSTILE_VALUES, ids=lambda value: str(value)[:12])
def test_a_value_that_could_not_be_read_again_is_a_bad_line_and_nothing_of_it_is_kept(vault, kind, field, value):
    vault.items.put("mia", ("notes", "work"), "a", {"said": "The harbour."}, texts=["The harbour."], ttl=DAY)
    lines = records(exported(vault))
    number = next(number for number, one in enumerate(lines, 1) if one.get("kind") == kind)
    lines[number - 1][field] = value
    hostile = b"\n".join(json.dumps(one).encode() for one in lines)
    with temporary_vault(clock=FixedClock(AT)) as other:
        report = other.import_(io.BytesIO(hostile), skip_bad=True)
        assert [(bad.line, bad.field) for bad in report.bad] == [(number, field)]
        assert report.by_kind[kind] == 0
        assert other.memory.context("mia", "Lisbon") and isinstance(other.items.namespaces("mia"), list)
        assert other.preferences.list("mia") == [] or kind != "preference"
        assert other.feedback.list("mia") == [] or kind != "feedback"
    with temporary_vault() as third, pytest.raises(BadRecord, match=f"line {number}, field {field}"):
        third.import_(io.BytesIO(hostile))


def test_json_that_is_written_another_way_is_kept_as_this_vault_writes_it(vault):
    """What stands twice under one key cannot be read, nor forgotten; another spelling of a place is another place."""
    vault.items.put("mia", ("notes", "work"), "a", 1)
    lines = records(exported(vault))
    for one in lines:
        if one.get("kind") == "item":
            one["namespace"] = '[ "notes", "w\\u006frk" ]'
        if one.get("kind") == "preference":
            one["value"] = '{"a": "The harbour.", "a": 1}'
    with temporary_vault() as other:
        assert other.import_(io.BytesIO(b"\n".join(json.dumps(one).encode() for one in lines))).bad == []
        assert exported(other) == exported(vault)
        assert other.items.find("mia", ("notes", "work"), "a").value == 1


def test_a_time_zone_that_is_no_name_is_a_bad_line_and_one_unknown_here_is_kept(vault):
    lines = records(exported(vault))
    for name in ("x" * 5000, "x" * 4000, "Mars/Olympus"):
        lines[1]["time_zone"] = name
        raw = b"\n".join(json.dumps(one).encode() for one in lines)
        with temporary_vault() as other:
            if len(name) > 4096:
                with pytest.raises(BadRecord, match="line 2, field time_zone"):
                    other.import_(io.BytesIO(raw))
                assert other.users.list_profiles() == []
            else:
                other.import_(io.BytesIO(raw))
                assert other.album.timeline("mia")
                assert records(exported(other))[1]["time_zone"] == name


def test_analytics_takes_a_time_zone_that_is_unknown_here_for_utc(vault):
    pytest.importorskip("duckdb", reason="the columns need the extra aico[analytics]")
    lines = records(exported(vault))
    lines[1]["time_zone"] = "Mars/Olympus"
    with temporary_vault() as other:
        other.import_(io.BytesIO(b"\n".join(json.dumps(one).encode() for one in lines)))
        assert other.analytics.sql("mia", "SELECT count(*) FROM messages").rows[0][0] == 2
