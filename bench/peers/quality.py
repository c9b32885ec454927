"""Recall quality on LoCoMo through each system's own interface."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import numpy as np

from aico.ai.embedding.choice import chosen_embedder
from aico.settings import Settings
from bench._report import progress
from bench.locomo import ADVERSARIAL, Conversation, load
from bench.peers.speed import DEPTH, START
from bench.peers.systems import Peer, started


def quality(
    pythons: Mapping[str, Path],
    folder: Path,
    data: Path,
    *,
    versions: dict[str, str],
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """LoCoMo, categories 1 to 4: evidence among the first ten, each conversation a user, the same model's vectors for all."""
    folder.mkdir(parents=True)
    conversations = load(data, one_store=False)
    items = {told.user: _items(told) for told in conversations}
    for user, some in items.items():
        (folder / f"{user}.json").write_text(json.dumps(some))
    _embed(folder, items, conversations)
    results: dict[str, Any] = {}
    with started(pythons, folder, versions, own_model=True) as peers:
        for peer in peers:
            peer.tell("learn", texts=str(folder / "texts.json"), vectors=str(folder / "vectors.npy"))
            for user, some in items.items():
                progress(f"{peer.name}: {len(some)} turns of {user}")
                peer.tell("add_many", user=user, items=str(folder / f"{user}.json"), first=0, last=len(some))
            peer.tell("settle")
            results[peer.name] = _asked(peer, conversations)
            keep(results)
            peer.tell("close")
    return results


def _items(told: Conversation) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{told.user}/{message.source_id}",  # some systems know one id once, whoever it is of
            "text": f"{message.speaker}: {message.text}" if message.speaker else message.text,
            "role": message.role,
            "speaker": message.speaker,
            "conversation": message.conversation,
            "at": message.at.isoformat() if message.at else START.isoformat(),
        }
        for message in told.messages
    ]


def _embed(folder: Path, items: Mapping[str, list[dict[str, Any]]], conversations: Sequence[Conversation]) -> None:
    """Turns and questions by this project's default model, once for all."""
    passages = list(dict.fromkeys(item["text"] for some in items.values() for item in some))
    asked = list(dict.fromkeys(question.text for told in conversations for question in told.questions))
    progress(f"embedding {len(passages):,} turns and {len(asked):,} questions once for all")
    model = chosen_embedder(Settings())
    if model is None:
        raise click.ClickException("quality needs the default model: run with the extra `embed`")
    vectors = [
        model.embed([prefix + text])[0]
        for prefix, texts in ((model.passage_prefix, passages), (model.query_prefix, asked))
        for text in texts
    ]
    (folder / "texts.json").write_text(json.dumps([*passages, *asked]))
    np.save(folder / "vectors.npy", np.array(vectors, np.float32))


def _asked(peer: Peer, conversations: Sequence[Conversation]) -> dict[str, Any]:
    found: list[tuple[bool, bool]] = []
    for told in conversations:
        for question in told.questions:
            if question.category != ADVERSARIAL:
                ids = set(peer.tell("search", user=told.user, question=question.text, limit=DEPTH).get("ids", ()))
                evidence = {f"{told.user}/{turn}" for turn in question.evidence}
                found.append((bool(ids & evidence), evidence <= ids))
    progress(f"{peer.name}: {len(found)} questions")
    return {
        "any@10": round(fmean(one for one, _ in found), 3),
        "all@10": round(fmean(whole for _, whole in found), 3),
        "questions": len(found),
        "not_reached": peer.failed,
    }
