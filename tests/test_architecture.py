"""The folder tree is the architecture: imports point down, engines stay in their folder, nothing opens a socket."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import aico

SOURCE = Path(aico.__file__).parent
LAYERS = {
    # The longest matching name counts.
    "aico": 99,  # the package itself loads its public names lazily
    "aico.errors": 0,
    "aico.clock": 0,
    "aico.files": 0,
    "aico.settings": 0,
    "aico.configuration": 0,
    "aico.config_file": 0,
    "aico.security": 1,
    "aico.data": 3,
    "aico.data.libsql": 2,
    "aico.data.lmdb": 2,
    "aico.data.chroma": 2,
    "aico.data.duckdb": 2,
    "aico.ai": 4,
    "aico.portability": 5,
    "aico.sync": 5,
    "aico.analytics": 5,
    "aico.vault": 6,
    "aico.vault_folder": 6,
    "aico.vault_keys": 6,
    "aico.vault_opening": 6,
    "aico.vault_layers": 6,
    "aico.anchor": 6,
    "aico.approval": 6,
    "aico.rotation": 6,
    "aico.audit": 6,
    "aico.health": 6,
    "aico.views": 6,
    "aico.user_erasure": 6,
    "aico.scheduler": 6,
    "aico.maintenance": 6,
    "aico.query": 6,
    "aico.backup": 6,
    "aico.testing": 6,
    "aico.demo": 6,
    "aico.__main__": 7,
    "aico.cli": 7,
    "aico.web": 7,
    "aico.mcp": 7,
    "aico.compat": 7,
    "aico.aio": 7,
    "aico.client": 7,
}
ONLY_IMPORTERS = {
    "apsw": "aico.data.libsql",
    "libsql": "aico.data.libsql",
    "lmdb": "aico.data.lmdb",
    "chromadb": "aico.data.chroma",
    "duckdb": "aico.data.duckdb",
    "pyarrow": "aico.data.duckdb",
    "sklearn": "aico.analytics",
    "matplotlib": "aico.analytics",
    "phonenumbers": "aico.analytics",
    "cryptography": ("aico.security", "aico.data.libsql.sealed.page_cipher", "aico.data.libsql.sealed.page_map"),
    "keyring": "aico.security",
    "tomlkit": "aico.config_file",
    "onnxruntime": "aico.ai.onnx",
    "tokenizers": "aico.ai.reranking",
    "sentencepiece": "aico.ai.embedding",
    "fastembed": "aico.ai.embedding",
    "faiss": "aico.ai.memory.index.codes",
    "mcp": "aico.mcp",
    "langgraph": "aico.compat.langgraph",
    "agents": "aico.compat.openai_agents",
}
NETWORK = {
    "socket",
    "ssl",
    "http",
    "urllib",
    "ftplib",
    "smtplib",
    "requests",
    "httpx",
    "aiohttp",
    "websockets",
}
MAY_REACH_THE_NETWORK = {"aico.ai.endpoint", "aico.ai.embedding.model_service", "aico.data.chroma.segments"}
"""Each only where the user has set up an address, or handed over a service that has one."""
MAY_RUN_AN_EVENT_LOOP = ("aico.aio", "aico.mcp", "aico.compat", "aico.web", *MAY_REACH_THE_NETWORK)
"""An event loop wakes itself through a pair of sockets: only what is awaited by others has one."""
MODULES = {
    ".".join(("aico", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}


def layer_of(module: str) -> int:
    while module not in LAYERS:
        module = module.rpartition(".")[0]
    return LAYERS[module]


def imports_of(module: str) -> set[str]:
    """Everything a module imports, in functions too, but not for type checking alone."""
    found = set()

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for other in child.orelse:
                    walk(other)
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module} imports relatively"
                for alias in child.names:
                    whole = f"{child.module}.{alias.name}"
                    found.add(whole if whole in MODULES else child.module)
            walk(child)

    walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module):
    assert module == "aico" or layer_of(module) != 99, f"{module} has no layer: name one in LAYERS"
    for imported in imports_of(module):
        if imported.partition(".")[0] == "aico" and imported != "aico":
            assert layer_of(imported) <= layer_of(module), (
                f"{module} (layer {layer_of(module)}) imports {imported} (layer {layer_of(imported)})"
            )


@pytest.mark.parametrize("module", sorted(MODULES))
def test_an_engine_is_imported_in_its_own_folder_only(module):
    for imported in imports_of(module):
        homes = ONLY_IMPORTERS.get(imported.partition(".")[0])
        if homes is not None:
            assert module.startswith(homes), f"{module} imports {imported}"


@pytest.mark.parametrize("module", sorted(set(MODULES) - MAY_REACH_THE_NETWORK))
def test_no_module_reaches_for_the_network(module):
    assert not {imported for imported in imports_of(module) if imported.partition(".")[0] in NETWORK}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_what_is_awaited_knows_of_event_loops(module):
    if "asyncio" in {imported.partition(".")[0] for imported in imports_of(module)}:
        assert module.startswith(MAY_RUN_AN_EVENT_LOOP)


def python(script: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_nothing_of_others(tmp_path):
    loaded = python(
        """
import sys
before = set(sys.modules)
import aico
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
""",
        tmp_path,
    )
    assert loaded.split() == ["aico"]


def test_a_vault_is_made_filled_and_searched_without_a_socket(tmp_path):
    done = python(
        f"""
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise AssertionError(event)
sys.addaudithook(refuse)        # told of every socket, also by extension modules that go through Python's
import socket
try:
    socket.socket()
except AssertionError:
    print("refused")
import aico
from aico.testing import cheap_settings
with aico.open({str(tmp_path / "vault")!r}, passphrase="only for tests", settings=cheap_settings()) as vault:
    vault.memory.record("mia", "I moved to Lisbon in May.", conversation="c1")
    vault.memory.remember("mia", "Mia lives in Lisbon")
    print(len(vault.memory.recall("mia", "where is Lisbon?")), vault.memory.context("mia", "Lisbon", conversation="c1").tokens > 0)
    vault.memory.forget("mia", about="Lisbon")
    vault.doctor()
    vault.audit(["a phrase that is nowhere"])
""",
        tmp_path,
    )
    assert done.split() == ["refused", "2", "True"]
