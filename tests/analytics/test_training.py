"""For training leaves only what its person agreed to, without the names and contacts the vault knows."""

import json
import unicodedata
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.analytics.redaction import Redactor
from aico.data.conversations import Message
from aico.errors import InvalidInput, NotFound
from tests.analytics.conftest import HOUR, NOON

pytest.importorskip("duckdb", reason="analytics needs the extra aico[analytics]")


@pytest.fixture
def agreed(vault):
    talk = (
        "My sister Nell Hagedorn moved.",
        "Call her at +49 30 901820 or nell@example.org, Mia.",
        "Thanks",
        "private",
    )
    ids = vault.memory.record_many(
        "mia",
        [
            Message(text, role=("user", "assistant")[n % 2], conversation=f"c{n // 2}", at=NOON + n * HOUR)
            for n, text in enumerate(talk)
        ],
    )
    profile = vault.users.get_profile(vault.users.find("mia").hex())
    vault.users.update_user(profile.id, full_name="Mia Hagedorn")
    vault.memory.record("mia", "I am Nell.", conversation="c9", speaker="Nell Hagedorn", at=NOON)
    vault.feedback.record("mia", "rating", "quality", message=ids[1], value=4)
    vault.feedback.record("mia", "rating", "quality", message=ids[1], value=5)
    vault.feedback.record("mia", "survey", "hurt", message=ids[3], is_sensitive=True)
    vault.preferences.set("mia", "training.consent", True)
    return vault


def lines(file):
    return [json.loads(line)["messages"] for line in file.read_text().splitlines()]


def test_without_consent_nothing_is_written(vault, tmp_path):
    vault.memory.record("mia", "hello", conversation="c1")
    for consent in (None, False, "yes", 1):
        if consent is not None:
            vault.preferences.set("mia", "training.consent", consent)
        with pytest.raises(InvalidInput):
            vault.analytics.export("mia", tmp_path / "out.jsonl")
    with pytest.raises(NotFound):
        vault.analytics.export("nobody", tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_names_contacts_and_what_is_sensitive_stay_behind(agreed, tmp_path):
    file = tmp_path / "out.jsonl"
    report = agreed.analytics.export("mia", file)
    text = file.read_text()
    for secret in ("Nell", "Hagedorn", "Mia", "901820", "example.org", "private", "2026"):
        assert secret not in text
    assert (report.conversations, report.messages, report.left_out, report.redacted) == (3, 4, 1, True)
    rated = [message for chat in lines(file) for message in chat if "rating" in message]
    assert rated == [{"role": "assistant", "content": "Call her at [phone] or [e-mail], [name 1].", "rating": 4.5}]
    assert file.stat().st_mode & 0o777 == 0o600
    assert agreed.audit_log.last_entries(1)[0].action == "exported"
    with pytest.raises(InvalidInput):
        agreed.analytics.export("mia", file)


def test_a_conversation_that_was_excluded_stays_out_and_a_crooked_list_is_refused(agreed, tmp_path):
    agreed.preferences.set("mia", "training.excluded", ["c0"])
    assert agreed.analytics.export("mia", tmp_path / "one.jsonl", redact=False).conversations == 2
    assert "sister" not in (tmp_path / "one.jsonl").read_text()
    agreed.preferences.set("mia", "training.excluded", "c0")
    with pytest.raises(InvalidInput):
        agreed.analytics.export("mia", tmp_path / "two.jsonl")
    assert not (tmp_path / "two.jsonl").exists()


def test_parquet_holds_the_same_messages(agreed, tmp_path):
    import pyarrow.parquet as pq

    agreed.analytics.export("mia", tmp_path / "out.parquet", format="parquet")
    agreed.analytics.export("mia", tmp_path / "out.jsonl")
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["content"] for row in found] == [m["content"] for chat in lines(tmp_path / "out.jsonl") for m in chat]
    assert {row["rating"] for row in found} == {None, 4.5}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("write to mia.h+x@mail.example.co.uk!", "write to [e-mail]!"),
        ("see https://example.org/mia?x=1 and www.example.org", "see [address] and [address]"),
        ("call (030) 901820-0 or +1 650-253-0000", "call [phone] or [phone]"),
        ("MIA and Mia's cat; Miami stays", "[name 1] and [name 1]'s cat; Miami stays"),
        ("version 2.3.1 of 2026-05-08, 12345678", "version 2.3.1 of 2026-05-08, 12345678"),
        ("Анна звонила", "[name 2] звонила"),
        ("nothing", "nothing"),
    ],
)
def test_what_is_known_is_taken_out_and_the_rest_stays(text, left):
    assert Redactor(["Mia", "Анна", "", "mia"]).redact(text) == left


NFD = partial(unicodedata.normalize, "NFD")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Mia Weiß hier, Frau WEISS, weiss; Weißwein", "[name 1] hier, Frau [name 1], [name 1]; Weißwein"),
        ("mia\n weiß; ßMia Weiß", "[name 1]; ßMia [name 1]"),
        ("anna groß, ANNA GROSS", "[name 2], [name 2]"),
        ("José, JOSÉ, Jose und Josés", "[name 3], [name 3], [name 3] und Josés"),
        (NFD("José, JOSÉ und Josés!"), NFD("[name 3], [name 3] und Josés!")),
        ("İpek, ipek, IPEK; O’Brien o'brien", "[name 4], [name 4], [name 4]; [name 5] [name 5]"),
        (NFD("é José é 서연 각"), NFD("é [name 3] é [name 6] 각")),
        ("ﬁn Mia™ …", "ﬁn [name 1]™ …"),
    ],
)
def test_a_name_is_found_however_it_is_spelled(text, left):
    names = ["Mia Weiß", "Anna Groß", "José", "İpek", "O'Brien", "서연", NFD("José"), "MIA WEISS"]
    for known in (names, list(map(NFD, names))):
        assert Redactor(known).redact(text) == left


@given(st.text(alphabet="aéß\u0301\u0323İıﬁ ẞ’'-한\u1100\u1161x", max_size=30))
def test_what_is_no_name_stays_to_the_letter(text):
    assert Redactor(["Nell"]).redact(text) == text
    assert Redactor(["Nell"]).redact(f"{text} NÉLL {text}") == f"{text} [name 1] {text}"


def test_a_conversation_is_kept_out_however_its_name_is_spelled_and_wherever_it_was_merged(agreed, tmp_path):
    agreed.memory.record("mia", "dear diary", conversation="Tagebücher")
    agreed.preferences.set("mia", "training.excluded", [NFD("Tagebücher")])
    agreed.analytics.export("mia", tmp_path / "one.jsonl")
    assert "dear diary" not in (tmp_path / "one.jsonl").read_text()
    agreed.conversations.merge("mia", keep="c9", drop="Tagebücher")
    agreed.analytics.export("mia", tmp_path / "two.jsonl")
    assert "dear diary" not in (tmp_path / "two.jsonl").read_text()


def test_a_name_that_is_no_conversation_is_refused_and_not_told(agreed, tmp_path):
    for names in (["c0", "my dairy"], ["C0"], [""]):
        agreed.preferences.set("mia", "training.excluded", names)
        with pytest.raises(InvalidInput, match=r"training\.excluded") as refused:
            agreed.analytics.export("mia", tmp_path / "out.jsonl")
        assert "dairy" not in f"{refused.value} {refused.value.hint}"
    assert list(tmp_path.iterdir()) == []
