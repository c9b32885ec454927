"""The one door for whatever is to be imported: looks at the input, picks the format, reads each of its files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from aico.ai.memory.manager import MemoryManager
from aico.data.conversations import ConversationRepository
from aico.data.libsql import LibSQLConnection
from aico.data.row_ids import NaturalIds
from aico.data.user import UserService
from aico.errors import InvalidInput
from aico.portability import chatgpt, claude
from aico.portability.chats import Format, import_chats
from aico.portability.jsonl import import_jsonl
from aico.portability.report import ImportReport
from aico.portability.restore import NamingKeys, import_export
from aico.portability.source import kind_of, opened_source, with_head
from aico.portability.upstream import UpstreamImport
from aico.security.keys import Passphrase

Kind = Literal["chatgpt", "claude", "jsonl", "aico", "aico-upstream"]
Progress = Callable[[int, int | None], object]
CHATS: dict[str, Format] = {"chatgpt": chatgpt.decode_chat, "claude": claude.decode_chat}


@dataclass(frozen=True, slots=True)
class How:
    """What a caller wishes of an import.

    `user` is whose memory it becomes; None for whom an aico export names, and `fallback_user` where no file names
    anybody. `kind` forces what the input is taken for. `old_secret` opens an upstream installation.
    """

    user: str | None = None
    fallback_user: str | None = None
    kind: Kind | None = None
    skip_bad: bool = False
    return_forgotten: bool = False
    old_secret: Passphrase | None = None


@dataclass(frozen=True, slots=True)
class Importer:
    """Reads what other products, and this one, export. Made of one vault's parts; any thread may use it."""

    connection: LibSQLConnection
    memory: MemoryManager
    users: UserService
    conversations: ConversationRepository
    natural_ids: NaturalIds
    naming_keys: NamingKeys

    def run(self, place: Path | str | BinaryIO, how: How, on_progress: Progress | None = None) -> ImportReport:
        """Import a file, ZIP archive, folder or open binary file.

        `on_progress` gets the bytes read and the bytes there are (None for a pipe). Raises NotFound, BadRecord,
        InvalidInput or as `record`; what was read before is imported, and importing again adds only the rest.
        """
        if how.kind == "aico-upstream":
            return self._upstream(place, how, on_progress)
        with opened_source(place) as source:
            report, before = ImportReport(left_out=source.left_out), 0

            def tell(done: int) -> None:
                if on_progress is not None:
                    on_progress(before + done, source.size_bytes)

            for part in source.parts:
                with part.open() as opened:
                    self._read(opened, part.name, how, report, tell)
                before += part.size_bytes or 0
            tell(0)
        return report

    def _upstream(self, place: Path | str | BinaryIO, how: How, on_progress: Progress | None) -> ImportReport:
        if not isinstance(place, str | Path):
            raise InvalidInput("an AICO installation is a folder; nothing was imported", hint="give its data folder")
        if how.old_secret is None:
            raise InvalidInput("the old installation's master password or key was not given; nothing was imported")
        report = ImportReport(format="aico-upstream")
        UpstreamImport(
            self.connection,
            self.memory,
            self.users,
            self.conversations,
            self.natural_ids,
            report,
            user=how.user,
            skip_bad=how.skip_bad,
            return_forgotten=how.return_forgotten,
            on_progress=None if on_progress is None else lambda done: on_progress(done, None),
        ).run(Path(place), how.old_secret)
        return report

    def _read(self, opened: BinaryIO, name: str, how: How, report: ImportReport, tell: Callable[[int], object]) -> None:
        head, file = with_head(opened)
        report.format = how.kind or kind_of(head)
        if report.format == "aico":
            import_export(
                self.connection,
                file,
                report,
                users=self.users,
                natural_ids=self.natural_ids,
                naming_keys=self.naming_keys,
                user=how.user,
                skip_bad=how.skip_bad,
                return_forgotten=how.return_forgotten,
                on_progress=tell,
            )
            return
        user = how.user or how.fallback_user
        if user is None:
            raise InvalidInput(
                "the file does not say whose memory it is; nothing was imported", hint="name a user, with --user"
            )
        reading = {"skip_bad": how.skip_bad, "return_forgotten": how.return_forgotten}
        if report.format == "jsonl":
            import_jsonl(self.memory, user, file, report=report, on_progress=tell, **reading)
        else:
            decode = CHATS[report.format]
            import_chats(self.memory, user, file, decode, report, file_name=name, on_progress=tell, **reading)
