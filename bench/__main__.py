"""`python -m bench NAME`: each benchmark is a module of this folder, imported when it is asked for."""

from importlib import import_module

import click

BENCHMARKS = {
    "assistant": "A day of an assistant over MCP: three clients, two of them killed, and is all there?",
    "fuzz": "A million inputs for everything that reads bytes from outside: does any escape?",
    "fit_ranker": "Fits the weights of the ranking, left one conversation out, and what each of them is worth.",
    "hot": "The hot tier beside diskcache: one more turn, and the last twenty.",
    "arrival": "A ChatGPT export on its way in: speed, memory, a kill, and what can be read afterwards.",
    "locomo": "Recall quality: does a question find the turns its answer rests on?",
    "repositories": "The usual questions at ten thousand rows and at a million.",
    "recall": "How fast a hybrid recall is, alone and while others write, beside Chroma, and what its index takes.",
    "analytics": "Reports in DuckDB against the same SQL in the sealed SQLite store.",
    "embed": "The default embedding model: CPU time for a query and a passage, memory, loading.",
    "companion": "Recall in talk with a companion: first person, five languages, our own test set.",
    "xquad": "Recall across languages: does a question find its paragraph?",
    "peers": "Beside mem0, Citadel, Chroma and LangGraph: speed, quality, weight, what can be read on the disk.",
    "storage": "The sealed store against SQLCipher and against SQLite in the clear.",
    "storm": "Kills, crowds and single writes: what was acknowledged and is missing?",
    "tamper": "Ten thousand changes to a vault's files, from outside: is each one told?",
    "views": "Hot tier, many writers, what another process sees and when, and what the change feed costs.",
    "writers": "Durable records from many processes and threads into one vault.",
}


class LazyGroup(click.Group):
    """Knows its benchmarks by name and sentence, and imports only the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(BENCHMARKS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return import_module(f"bench.{cmd_name}").command if cmd_name in BENCHMARKS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Benchmarks"):
            formatter.write_dl(list(BENCHMARKS.items()))


@click.command(cls=LazyGroup, subcommand_metavar="NAME [OPTIONS]", context_settings={"show_default": True})
def main() -> None:
    """Measure AICO on this machine. bench/README.md says what each figure means, and what it does not."""


if __name__ == "__main__":
    main(prog_name="python -m bench")
