"""Files, ZIP archives and folders, real and hostile; nothing is ever unpacked."""

import io
import json
import struct
import zipfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aico.errors import AicoError, InvalidInput, NotFound
from aico.portability.source import kind_of
from aico.testing import temporary_vault
from tests.portability.synthetic import chatgpt_list, write_chatgpt_zip


@pytest.fixture
def vault():
    with temporary_vault() as vault:
        yield vault


def zipped(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def chats(messages, **how):
    return b"".join(chatgpt_list(messages, **how))


def test_a_zip_as_it_was_downloaded_is_read_and_its_other_files_are_counted(vault, tmp_path):
    write_chatgpt_zip(tmp_path / "export.zip", 60)
    report = vault.import_(tmp_path / "export.zip", "mia")
    assert (report.format, report.added, report.conversations) == ("chatgpt", 60, 3)
    assert report.left_out["image files"] == report.left_out["the file user.json"] == 1


def test_a_split_export_is_read_in_order_from_a_zip_and_from_its_folder(vault, tmp_path):
    files = {f"conversations-{n:03}.json": chats(20, seed=n) for n in (1, 0, 2)} | {"sub/voice.wav": b"RIFF"}
    report = vault.import_(zipped(tmp_path / "export.zip", files), "mia")
    assert (report.added, report.left_out["audio and video files"]) == (60, 1)
    folder = tmp_path / "unpacked"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert vault.import_(folder, "mia").repeated == 60
    assert vault.import_(folder / "conversations-000.json", "mia").repeated == 20


def test_an_open_file_and_a_pipe_are_read_too(vault):
    assert vault.import_(io.BytesIO(chats(20)), "mia").added == 20


def test_paths_in_an_archive_lead_nowhere(vault, tmp_path):
    hostile = {"/etc/conversations.json": chats(20), "../../conversations-001.json": chats(20, seed=3)}
    before = sorted(tmp_path.parent.iterdir())
    assert vault.import_(zipped(tmp_path / "hostile.zip", hostile), "mia").added == 40
    assert sorted(tmp_path.parent.iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.zip"]


def test_a_zip_bomb_is_refused_before_it_grows(vault, tmp_path):
    bomb = zipped(tmp_path / "bomb.zip", {"conversations.json": b"[" + b" " * 100_000_000})
    with pytest.raises(InvalidInput, match="more than a chat export"):
        vault.import_(bomb, "mia")


def test_an_encrypted_member_is_refused_in_words(vault, tmp_path):
    path = zipped(tmp_path / "locked.zip", {"conversations.json": chats(20)})
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.find(signature) + offset
        raw[at : at + 2] = struct.pack("<H", struct.unpack("<H", raw[at : at + 2])[0] | 1)
    path.write_bytes(raw)
    with pytest.raises(InvalidInput, match="encrypted inside"):
        vault.import_(path, "mia")


def test_an_unusual_compression_is_refused_in_words(vault, tmp_path):
    path = zipped(tmp_path / "odd.zip", {"conversations.json": chats(20)}, zipfile.ZIP_LZMA)
    with pytest.raises(InvalidInput, match="unusual way"):
        vault.import_(path, "mia")


def test_a_damaged_member_keeps_what_came_before_it(vault, tmp_path):
    path = zipped(tmp_path / "export.zip", {"conversations.json": chats(8000)}, zipfile.ZIP_STORED)
    raw = bytearray(path.read_bytes())
    raw[len(raw) * 3 // 4] ^= 0x01
    path.write_bytes(raw)
    with pytest.raises(InvalidInput, match="damaged"):
        vault.import_(path, "mia", skip_bad=True)
    assert vault.status().rows["messages"] > 0
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(InvalidInput, match="damaged or not whole"):
        vault.import_(path, "mia")


@pytest.mark.parametrize("files", [{}, {"readme.txt": b"hello"}, {"photo.png": b"\x89PNG"}])
def test_an_archive_without_conversations_says_so(vault, tmp_path, files):
    with pytest.raises(InvalidInput, match="no conversations in it"):
        vault.import_(zipped(tmp_path / "other.zip", files), "mia")


def test_an_empty_name_is_not_the_current_folder(vault, tmp_path, monkeypatch):
    (tmp_path / "chat.jsonl").write_text('{"text": "hello", "conversation": "c", "at": "2026-05-08T12:00:00Z"}')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput):
        vault.import_("", "mia")


def test_what_is_no_export_is_refused_and_what_is_missing_is_named(vault, tmp_path):
    (tmp_path / "list.json").write_text('[{"name": "a list of something else"}]')
    with pytest.raises(InvalidInput, match="not an export that aico knows"):
        vault.import_(tmp_path / "list.json", "mia")
    with pytest.raises(NotFound):
        vault.import_(tmp_path / "nothing.zip", "mia")


def test_a_folder_does_not_follow_links(vault, tmp_path):
    (tmp_path / "elsewhere.json").write_bytes(chats(20))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "conversations.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(InvalidInput, match="no conversations"):
        vault.import_(folder, "mia")


def test_progress_counts_the_bytes_of_all_parts(vault, tmp_path):
    seen = []
    files = {f"conversations-{n:03}.json": chats(200, seed=n) for n in range(2)}
    vault.import_(zipped(tmp_path / "x.zip", files), "mia", on_progress=lambda done, total: seen.append((done, total)))
    total = sum(map(len, files.values()))
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len({done for done, _ in seen}) > 5


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b'[{"title": "x", "mapping": {}}]', "chatgpt"),
        (b'[{"title": "about \\"chat_messages\\": x", "mapping" : {}}]', "chatgpt"),
        (b'[\n {\n  "uuid": "x", "chat_messages": [{"text": "\\"mapping\\":"}]}]', "claude"),
        (b'{"aico_export":1,"user":"mia"}\n', "aico"),
        (b'{"text": "my \\"mapping\\": a story", "conversation": "c"}\n', "jsonl"),
        (b"", "jsonl"),
        (b" [ ] ", "jsonl"),
    ],
)
def test_the_kind_shows_in_the_first_bytes(head, kind):
    assert kind_of(head) == kind


def test_a_kind_can_be_forced(vault, tmp_path):
    path = tmp_path / "data.json"
    line = {"text": 'he wrote "mapping"', "conversation": "c", "at": "2026-05-08T12:00:00Z", "mapping": 1}
    path.write_text(json.dumps(line))
    assert vault.import_(path, "mia", kind="jsonl").added == 1


@settings(max_examples=150)
@given(
    places=st.lists(st.integers(0, 80) | st.integers(-120, -1) | st.integers(0, 10_000), min_size=1, max_size=3),
    byte=st.integers(0, 255),
    kept=st.none() | st.integers(1, 10_000),
)
@example(places=[29], byte=1, kept=None)
def test_a_changed_byte_anywhere_is_a_report_or_a_typed_error(fuzzed, places, byte, kept):
    vault, raw, path = fuzzed
    mutated = bytearray(raw)
    for place in places:
        mutated[place % len(raw) if place >= 0 else place] = byte
    path.write_bytes(mutated[:kept])
    try:
        vault.import_(path, "mia", skip_bad=True)
    except AicoError:
        pass


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "export.zip"
    zipped(path, {"conversations.json": chats(6, turns=3)}, zipfile.ZIP_STORED)
    with temporary_vault() as vault:
        yield vault, path.read_bytes(), path


def test_an_archive_of_very_many_small_members_is_sorted_without_comparing_each_with_each(vault, tmp_path):
    """25,000 of them took a minute when they were."""
    files = {f"conversations-{number}.json": b"[]" for number in range(25_000)}
    report = vault.import_(zipped(tmp_path / "many.zip", files, zipfile.ZIP_STORED), "mia", kind="chatgpt")
    assert (report.added, dict(report.left_out)) == (0, {})


def test_an_archive_that_lists_a_million_members_is_refused_before_they_are_read(vault, tmp_path):
    path = zipped(tmp_path / "export.zip", {"x": b""}, zipfile.ZIP_STORED)
    whole = path.read_bytes()
    at = whole.index(b"PK\x01\x02")
    end = whole.index(b"PK\x05\x06")
    many = whole[at:end] * 1_000_000
    lying = bytearray(whole[end:])
    lying[12:16] = len(many).to_bytes(4, "little")  # how long the list is; how many it has, zipfile does not ask
    path.write_bytes(whole[:at] + many + lying)
    with pytest.raises(InvalidInput, match="list of members"):
        vault.import_(path, "mia")


def test_a_member_of_a_zip_without_a_name_is_a_file_like_others(vault, tmp_path):
    archive = zipped(tmp_path / "export.zip", {"conversations.json": chats(20), "x": b""})
    raw = archive.read_bytes()
    at = raw.rindex(b"PK\x01\x02")
    archive.write_bytes(raw[: at + 46] + b"\0" + raw[at + 47 :])
    report = vault.import_(archive, "mia")
    assert (report.added, report.left_out["other files"]) == (20, 1)
