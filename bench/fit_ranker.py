"""Which weights should the ranking go by? Fits them on LoCoMo, left one conversation out, and says what each is worth.

Candidates come from the recall index of a real vault, with every signal the ranking gets; only the weights are tried out
here. Nothing else of this repository knows that there was a data set.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import msgspec
import numpy as np
import numpy.typing as npt
from rich.table import Table

import aico
from aico.ai.memory import ranking
from aico.ai.memory import weights as weights_module
from aico.ai.memory.candidates import Candidates
from aico.ai.memory.index import Filter
from aico.ai.memory.weights import FITTED, Weights
from aico.settings import Settings
from aico.testing import cheap_settings
from bench._report import Report, figure, folder_option, json_option, progress, scratch_folder, table
from bench.locomo import ADVERSARIAL, Conversation, load

FILE = Path(weights_module.__file__).with_name("weights.json")
WHERE = Filter(kinds=frozenset({"message"}))
MODES = ("by_words", "by_meaning")
STEPS = (0.7, 0.85, 1.0, 1.2, 1.4)
"""What each weight is multiplied with, one after the other, as long as that helps."""
FIXED = ("made_by", "like_from", "common", "same_from", "telling_length", "favourite", "helpful", "in_time", *MODES)
OFF = {
    "without neighbours": {"nearest_lends": 0.0, "next_lends": 0.0},
    "without neighbours two turns away": {"next_lends": 0.0},
    "without “a reply borrows more”": {"reply": 0.0},
    "without “names a time, or an amount, as asked”": {"tells": 0.0},
    "without whom the question is about": {"speaker": 0.0},
    "without the episode": {"episode": 0.0},
    "without the length of a turn": {"length": 0.0},
    "without “a turn that asks counts less”": {"question": 0.0},
    "without meaning lent by neighbours": {"meaning_lent": 0.0},
    "without meaning": {"meaning": 0.0},
}
SHOWN = 50
"""Hits of a question that are believed or not: what the probability is fitted on."""
THRESHOLDS = (0.005, 0.01, 0.02, 0.05, 0.1)

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question in one conversation: what there is to choose from, and which of it is right."""

    conversation: str
    found: Candidates
    right: npt.NDArray[np.bool_]
    evidence_count: int
    """0 where the answer was never said."""


@click.command("fit_ranker")
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="LoCoMo conversations, as for `locomo`.",
)
@click.option("--limit-conversations", type=click.IntRange(min=2), help="Only the first N conversations.")
@click.option("--rounds", type=click.IntRange(min=0), default=2, help="How often every weight is tried; 0 fits none.")
@click.option("--write", is_flag=True, help=f"Write the weights to {FILE.name}.")
@folder_option
@json_option
def command(
    data: Path, limit_conversations: int | None, rounds: int, write: bool, folder: Path | None, as_json: bool
) -> None:
    """Which weights should the ranking go by, and what is each of them worth?"""
    conversations = load(data, one_store=False)[:limit_conversations]
    with scratch_folder(folder) as scratch:
        report = Report.begin("fit_ranker", folder=scratch, data=data.name, rounds=rounds)
        asked = {mode: gather(conversations, scratch / mode, meaning=mode == "by_meaning") for mode in MODES}
    chosen, held_out = cross_validated(asked, rounds) if rounds else (FITTED, {})
    chosen = with_probabilities(chosen, asked)
    results = {
        "before": {mode: quality(asked[mode], FITTED) for mode in MODES},
        "held_out": held_out,
        "fitted": {mode: quality(asked[mode], chosen) for mode in MODES},
        "ablation": ablation(asked, chosen),
        "probabilities": {mode: believed(asked[mode], chosen) for mode in MODES},
        "weights": msgspec.to_builtins(chosen),
    }
    if write:
        _write(chosen, data, held_out, results["fitted"])
    tables = [_quality_table(results), _ablation_table(results), _probability_table(results)]
    report.publish(results, tables, as_json=as_json)


# What there is to rank


def gather(conversations: Sequence[Conversation], vault_folder: Path, *, meaning: bool) -> list[Asked]:
    """Every question put to its own conversation and, as one that has no answer, to the next one."""
    settings = replace(cheap_settings(), embedder=Settings().embedder if meaning else None)
    with aico.open(vault_folder, passphrase="only a benchmark", settings=settings) as vault:
        source_ids: dict[bytes, str | None] = {}
        for conversation in conversations:
            ids = vault.memory.record_many(conversation.user, conversation.messages)
            source_ids |= {bytes.fromhex(id_): m.source_id for id_, m in zip(ids, conversation.messages, strict=True)}
        progress(f"waiting for views{' and vectors' if meaning else ''}")
        vault.views.wait()
        asked = []
        others = [*conversations[1:], conversations[0]]
        for conversation, other in zip(conversations, others, strict=True):
            progress(f"asking the questions of {conversation.user}")
            for question in conversation.questions:
                if question.category != ADVERSARIAL:
                    for place in (conversation, other):
                        found, ids = _candidates(vault, place.user, question.text, meaning=meaning)
                        evidence = question.evidence if place is conversation else frozenset()
                        right = np.array([source_ids[id_] in evidence for id_ in ids], np.bool_)
                        asked.append(Asked(conversation.user, found, right, len(evidence)))
    return asked


def _candidates(vault: aico.Vault, user: str, text: str, *, meaning: bool) -> tuple[Candidates, list[bytes]]:
    user_id = vault.users.find(user)
    assert user_id is not None
    meant = vault.embeddings.meaning_of(text) if meaning else None
    return vault.indexes.current(user_id).candidates(text, where=WHERE, meaning=meant)


# How good a choice of weights is


def quality(asked: Sequence[Asked], weights: Weights) -> dict[str, float]:
    """Means over the questions that have an answer."""
    return _quality([(one, _order(one, weights)) for one in asked if one.evidence_count])


def _order(one: Asked, weights: Weights) -> npt.NDArray[np.intp]:
    lending = np.where(one.found.lending > 0, np.float32(1), np.float32(0))
    lending[:2] *= np.float32(weights.nearest_lends)
    lending[2:] *= np.float32(weights.next_lends)
    scores = ranking.shares_of_the_best(replace(one.found, lending=lending), weights)
    return np.argsort(-scores, kind="stable")


def _quality(ordered: Sequence[tuple[Asked, npt.NDArray[np.intp]]]) -> dict[str, float]:
    ranks = [(np.flatnonzero(one.right[order]) + 1, one.evidence_count) for one, order in ordered]
    figures = {
        "any@10": fmean(bool((found <= 10).any()) for found, _ in ranks),
        "all@10": fmean(int((found <= 10).sum()) == count for found, count in ranks),
        "any@50": fmean(bool((found <= 50).any()) for found, _ in ranks),
        "mrr": fmean(1 / int(found[0]) if len(found) and found[0] <= 50 else 0.0 for found, _ in ranks),
    }
    return {name: round(value, 4) for name, value in figures.items()}


def _worths(asked: Mapping[str, Sequence[Asked]], weights: Weights) -> npt.NDArray[np.float64]:
    """What is made as large as possible, of each conversation: any@10, all@10 and mrr, with and without a model, all alike."""
    names = sorted({one.conversation for one in asked[MODES[0]]})
    return np.array([
        fmean(
            value
            for some in asked.values()
            for measure, value in quality([one for one in some if one.conversation == name], weights).items()
            if measure != "any@50"
        )
        for name in names
    ])  # fmt: skip


# Fitting


def cross_validated(asked: Mapping[str, Sequence[Asked]], rounds: int) -> tuple[Weights, dict[str, dict[str, float]]]:
    """Weights fitted on everything, and how good those are that were fitted on all conversations but one, on that one."""
    names = sorted({one.conversation for one in asked[MODES[0]]})
    fitted = [_fitted_without(asked, rounds, name) for name in [*names, None]]
    held_out = {
        mode: _quality(
            [
                (one, _order(one, weights))
                for name, weights in zip(names, fitted[:-1], strict=True)
                for one in asked[mode]
                if one.conversation == name and one.evidence_count
            ]
        )
        for mode in MODES
    }
    return fitted[-1], held_out


def _fitted_without(asked: Mapping[str, Sequence[Asked]], rounds: int, name: str | None) -> Weights:
    """Takes a step if that helps on average and hurts one conversation at most: what helps few of them is chance."""
    progress(f"fitting without {name}" if name else "fitting on all")
    some = {mode: [one for one in asked[mode] if one.conversation != name and one.evidence_count] for mode in MODES}
    chosen, worths = FITTED, _worths(some, FITTED)
    for _ in range(rounds):
        for field in (field for field in Weights.__struct_fields__ if field not in FIXED):
            for tried in _steps(chosen, field):
                found = _worths(some, tried)
                if found.mean() > worths.mean() and np.count_nonzero(found < worths) <= 1:
                    chosen, worths = tried, found
    return chosen


def _steps(weights: Weights, field: str) -> Iterator[Weights]:
    for step in STEPS:
        if step != 1:
            yield msgspec.structs.replace(weights, **{field: round(getattr(weights, field) * step, 4)})


def ablation(asked: Mapping[str, Sequence[Asked]], weights: Weights) -> dict[str, dict[str, dict[str, float]]]:
    """How good the ranking is with one step left out."""
    return {
        name: {mode: quality(asked[mode], msgspec.structs.replace(weights, **off)) for mode in MODES}
        for name, off in OFF.items()
    }


# Probabilities


def with_probabilities(weights: Weights, asked: Mapping[str, Sequence[Asked]]) -> Weights:
    """With the slope and offset under which the first hits of all questions that have an answer are likeliest."""
    fitted = {}
    for mode in MODES:
        shares, right = _shown(asked[mode], weights)
        fitted[mode] = _logistic(np.log(shares), right)
    return msgspec.structs.replace(weights, **fitted)


def _shown(asked: Sequence[Asked], weights: Weights) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The shares of the first hits of each answerable question, and which of them are right."""
    shares, right = [], []
    for one in asked:
        if one.evidence_count:
            found = ranking.shares_of_the_best(one.found, weights).astype(np.float64)
            first = np.argsort(-found, kind="stable")[:SHOWN]
            shares.append(found[first])
            right.append(one.right[first])
    together, all_right = np.concatenate(shares), np.concatenate(right)
    return together[together > 0], all_right[together > 0]


def _logistic(x: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset by Newton's method."""
    design, beta = np.stack([x, np.ones_like(x)], axis=1), np.zeros(2)
    for _ in range(50):
        likely = 1 / (1 + np.exp(-(design @ beta)))
        curved = design.T @ (design * (likely * (1 - likely))[:, None]) + 1e-6 * np.eye(2)
        beta += np.linalg.solve(curved, design.T @ (right - likely))
    return round(float(beta[0]), 3), round(float(beta[1]), 3)


def believed(asked: Sequence[Asked], weights: Weights) -> dict[str, Any]:
    """How far the scores are to be believed: per threshold, what `score_min` keeps of answers, and how often it leaves
    nothing of a question that has none; and how far said and seen probability are apart, on average."""
    meaning = asked[0].found.likeness is not None
    ranked = [(one, ranking.rank(one.found, weights)) for one in asked]
    shares, right = _shown(asked, weights)
    likely = ranking.probabilities(shares.astype(np.float32), meaning=meaning, weights=weights)
    bins = np.minimum((likely * 20).astype(int), 19)
    apart = [
        float(np.count_nonzero(bins == number))
        * abs(float(likely[bins == number].mean() - right[bins == number].mean()))
        for number in np.unique(bins)
    ]
    kept = {str(least): _kept(ranked, least) for least in THRESHOLDS}
    return {"apart": round(sum(apart) / len(likely), 4), "score_min": kept}


def _kept(ranked: Sequence[tuple[Asked, Scores]], least: float) -> dict[str, float]:
    kept = [bool((one.right & (scores >= least)).any()) for one, scores in ranked if one.evidence_count]
    silent = [not (scores >= least).any() for one, scores in ranked if not one.evidence_count]
    return {"evidence_kept": round(fmean(kept), 4), "nothing_said": round(fmean(silent), 4)}


def _write(
    weights: Weights,
    data: Path,
    held_out: Mapping[str, Mapping[str, float]],
    fitted: Mapping[str, Mapping[str, float]],
) -> None:
    how = "one conversation left out" if held_out else "probabilities alone were fitted, on what is measured"
    figures = "; ".join(
        f"{mode.replace('_', ' ')} any@10 {one['any@10']}, all@10 {one['all@10']}, mrr {one['mrr']}"
        for mode, one in (held_out or fitted).items()
    )
    made_by = f"python -m bench fit_ranker on {data.name}; {how}: {figures}"
    content = msgspec.json.encode(msgspec.structs.replace(weights, made_by=made_by))
    FILE.write_bytes(msgspec.json.format(content, indent=2) + b"\n")


def _quality_table(results: Mapping[str, Any]) -> Table:
    measures = ("any@10", "all@10", "any@50", "mrr")
    drawn = table("Weights", "", *(f"{measure}, {mode[3:]}" for mode in MODES for measure in measures))
    for name in ("before", "held_out", "fitted"):
        if results[name]:
            cells = [figure(results[name][mode][measure]) for mode in MODES for measure in measures]
            drawn.add_row(name.replace("_", " "), *cells)
    return drawn


def _ablation_table(results: Mapping[str, Any]) -> Table:
    measures = ("any@10", "all@10", "mrr")
    drawn = table("One step left out", "", *(f"{measure}, {mode[3:]}" for mode in MODES for measure in measures))
    for name, found in {"all steps": results["fitted"], **results["ablation"]}.items():
        drawn.add_row(name, *(figure(found[mode][measure]) for mode in MODES for measure in measures))
    return drawn


def _probability_table(results: Mapping[str, Any]) -> Table:
    drawn = table(
        "Scores", "score_min", *(f"{what}, {mode[3:]}" for mode in MODES for what in ("kept", "nothing said"))
    )
    for least in map(str, THRESHOLDS):
        cells = [results["probabilities"][mode]["score_min"][least] for mode in MODES]
        drawn.add_row(least, *(figure(cell[name]) for cell in cells for name in ("evidence_kept", "nothing_said")))
    return drawn
