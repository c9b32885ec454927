"""Settings that let memories out hold for nobody but those who can unlock the vault."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import aico
from aico.approval import weakened_by
from aico.cli import _approval
from aico.data.audit_log import Action
from aico.errors import AccessDenied
from aico.settings import ChromaSpec, EmbedderSpec, KdfCost, RerankerSpec, Settings
from aico.testing import PASSPHRASE, cheap_settings

SECRET = "the blue door behind the mill"


@pytest.fixture(autouse=True)
def _file_decides(monkeypatch):
    """The variable would go before the file: it is the program's, and needs no yes."""
    monkeypatch.delenv("AICO_EMBEDDER", raising=False)


@pytest.fixture
def folder(tmp_path):
    """A vault with a memory, whose settings were never changed."""
    with aico.open(tmp_path / "v", passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        vault.memory.record("mia", SECRET, conversation="c1")
    return tmp_path / "v"


@pytest.fixture
def listener():
    """A server of the attacker's, and what was sent to it."""
    heard: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(self.rfile.read(int(self.headers["Content-Length"])))
            texts = json.loads(heard[-1])["input"]
            vectors = [{"index": number, "embedding": [0.5, len(text), 1.0]} for number, text in enumerate(texts)]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"data": vectors}).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", heard
    server.shutdown()
    server.server_close()


def opened(folder, **how):
    return aico.open(folder, passphrase=PASSPHRASE, create=False, **how)


def planted(folder, url, model="m"):
    (folder / "config.toml").write_text(f'[embedder]\nkind = "openai"\nmodel = "{model}"\nurl = "{url}"\n')
    (folder / "config.toml").chmod(0o600)


def test_a_planted_server_is_sent_nothing(folder, listener):
    """The attack: a cloud folder hands config.toml back with a model's address of its own."""
    url, heard = listener
    planted(folder, url)
    with pytest.raises(AccessDenied, match="said yes") as refused:
        opened(folder)
    assert url in str(refused.value) and "aico config approve" in refused.value.hint
    assert heard == []
    (folder / "config.toml").unlink()
    with opened(folder) as vault:
        assert vault.memory.recall("mia", "blue door")[0].text == SECRET


def test_after_a_yes_it_holds_until_it_changes(folder, listener):
    url, heard = listener
    planted(folder, url)
    opened(folder, approve_settings=True).close()
    with opened(folder) as vault:
        vault.memory.recall("mia", "which door?")
        vault.embeddings.catch_up()
    assert any(SECRET.encode() in one for one in heard)
    for other in (url, url.replace("/v1", "/v2")):
        planted(folder, other, model="another")
        with pytest.raises(AccessDenied):
            opened(folder)
    planted(folder, url)
    with opened(folder) as vault:
        assert len(vault.audit_log.entries(action=Action.SETTINGS_APPROVED)) == 1


def test_an_earlier_yes_does_not_count_once_there_was_another(folder, listener):
    """The attack: yesterday's file put back, of the server that was trusted then."""
    url, _ = listener
    for model in ("then", "now"):
        planted(folder, url, model)
        opened(folder, approve_settings=True).close()
    planted(folder, url, "then")
    with pytest.raises(AccessDenied):
        opened(folder)


def test_what_is_said_yes_to_is_what_was_shown(folder, listener, monkeypatch):
    """The attack: the file is changed between the question and the answer."""
    url, _ = listener
    planted(folder, url, "shown")
    monkeypatch.setenv("AICO_PASSPHRASE_FILE", str(folder.parent / "passphrase"))
    (folder.parent / "passphrase").write_text(PASSPHRASE)
    monkeypatch.setattr(_approval, "can_confirm", lambda: True)
    monkeypatch.setattr(_approval, "confirmed", lambda _: planted(folder, url, "swapped") or True)
    assert "model shown at" in _approval.approve_settings(folder, yes=False)[0]
    with pytest.raises(AccessDenied, match="swapped"):
        opened(folder)
    planted(folder, url, "shown")
    opened(folder).close()


def test_another_key_for_a_server_needs_another_yes(folder, listener):
    """The attack: the server that was agreed to is sent another secret of this machine's environment."""
    url, _ = listener
    planted(folder, url)
    opened(folder, approve_settings=True).close()
    with (folder / "config.toml").open("a") as file:
        file.write('api_key_env = "CLOUD_SECRET"\n')
    with pytest.raises(AccessDenied):
        opened(folder)


def test_a_planted_name_moves_nothing_on_a_terminal(folder):
    """The attack: a model's name that wipes the line with the address, or turns it around."""
    planted(folder, "http://a.example", r"m\u001b[2K\r\u202enothing")
    with pytest.raises(AccessDenied) as refused:
        opened(folder)
    assert str(refused.value).isprintable()
    assert "http://a.example" in str(refused.value)


def test_settings_of_the_program_and_of_who_makes_the_vault_need_no_other_yes(tmp_path, listener):
    url, _ = listener
    tmp_path.joinpath("config.toml").write_text(
        "anchor_in_keyring = false\n[kdf]\nmemory_kib = 64\npasses = 1\nlanes = 1\n"
    )
    tmp_path.joinpath("config.toml").chmod(0o600)
    aico.open(tmp_path, passphrase=PASSPHRASE).close()
    opened(tmp_path).close()
    planted(tmp_path, url)
    with opened(tmp_path, settings=cheap_settings()) as vault:
        assert len(vault.audit_log.entries(action=Action.SETTINGS_APPROVED)) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(), []),
        (Settings(embedder="none"), []),
        (Settings(embedder=EmbedderSpec(kind="fastembed", model="m")), []),
        (Settings(chroma=ChromaSpec()), []),
        (Settings(reranker=RerankerSpec(kind="onnx", model="folder")), []),
        (Settings(kdf=KdfCost(memory_kib=512 * 1024)), []),
        (Settings(embedder=EmbedderSpec(kind="ollama", model="m")), ["this machine"]),
        (Settings(reranker=RerankerSpec(kind="http", model="m", url="http://a.example")), ["http://a.example"]),
        (Settings(chroma=ChromaSpec(kind="server", url="http://c.example")), ["http://c.example"]),
        (Settings(chroma=ChromaSpec(kind="local", allow_plaintext_index=True)), ["readable"]),
        (Settings(kdf=KdfCost(memory_kib=64)), ["64 KiB"]),
        (Settings(anchor_in_keyring=False), ["older copy"]),
    ],
)  # fmt: skip
def test_only_what_lets_memories_out_or_guards_them_less_is_asked_about(settings, said):
    weakened = weakened_by(settings)
    assert len(weakened) == len(said)
    assert all(word in sentence for word, sentence in zip(said, weakened, strict=True))
