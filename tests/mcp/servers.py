"""A vault for servers of their own, and the SDK's client on the other end of real pipes."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters, stdio_client

import aico
from aico.testing import cheap_settings

PASSPHRASE = "a passphrase nobody would write down"


class Home:
    """A vault's folder, and what starts its servers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.vault = folder, folder / "vault"
        self.passphrase_file, self.errors = folder / "passphrase", folder / "stderr"
        self.passphrase_file.write_text(PASSPHRASE)
        with self.open():
            pass

    def open(self) -> aico.Vault:
        return aico.open(self.vault, passphrase=PASSPHRASE, settings=cheap_settings())

    def parameters(self, *options: str, pid_file: Path | None = None) -> StdioServerParameters:
        command = [sys.executable, "-m", "aico", "--home", str(self.vault), "mcp", *options]
        if pid_file is not None:  # exec keeps the process id
            command = ["sh", "-c", f'echo $$ > {pid_file}; exec "$@"', "sh", *command]
        environment = {"AICO_PASSPHRASE_FILE": str(self.passphrase_file), "AICO_EMBEDDER": "none"}
        return StdioServerParameters(command=command[0], args=command[1:], env=environment)

    @asynccontextmanager
    async def client(self, *options: str, pid_file: Path | None = None) -> AsyncIterator[Client]:
        with self.errors.open("a") as errors:
            async with Client(stdio_client(self.parameters(*options, pid_file=pid_file), errlog=errors)) as client:
                yield client


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """What a tool gives; its error, where there is one, is told by `error`."""
    result = await client.call_tool(tool, arguments)
    found = result.structured_content
    assert isinstance(found, dict)
    assert result.is_error == ("error" in found)
    return found
