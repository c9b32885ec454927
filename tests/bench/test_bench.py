"""The benchmarks run from a checkout, say the same thing in the same shape, and find what is plainly there.

No figure of time is compared with anything: those belong to a quiet machine and a person.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from aico.ai.embedding.choice import can_run_default_model
from aico.ai.memory import weights as memory_weights
from aico.testing import temporary_vault
from bench import companion
from bench.repositories import Filled, Question, full_scans

ROOT = Path(__file__).parents[2]
BAKERY = [
    "Hello Ilka!",
    "My sourdough starter is called Hubert.",
    "The oven broke on Thursday.",
    "Poor Hubert must wait.",
]
BREAD_EN = ("Ilka bakes bread with a starter called Hubert.", "What is the starter for the bread called?")
BREAD_DE = ("Ilka backt Brot mit einem Sauerteig namens Hubert.", "Wie heißt der Sauerteig für das Brot?")
SAILING = ["Ahoy!", "We moored near Lussin.", "Did the anchor hold?", "A storm tore the green spinnaker."]


def run_bench(*arguments: str) -> dict[str, Any]:
    """What a benchmark says on standard output, which is one JSON object and nothing else."""
    command = [sys.executable, "-m", "bench", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def conversation(name: str, speakers: list[str], texts: list[str], questions: list[dict[str, Any]]) -> dict[str, Any]:
    """A conversation of one session in LoCoMo's shape; turn ids are D1:1, D1:2, …"""
    turns = [
        {
            "id": f"D1:{number}",
            "session": 1,
            "session_time": "9:05 am on 3 March, 2024",
            "speaker": speakers[number % 2],
            "text": text,
        }
        for number, text in enumerate(texts, 1)
    ]
    return {"id": name, "speakers": speakers, "turns": turns, "questions": questions}


@pytest.fixture
def locomo_file(tmp_path: Path) -> Path:
    bakery = conversation(
        "bakery",
        ["Ilka", "Bero"],
        BAKERY,
        [
            {
                "question": "What is the sourdough starter called?",
                "category": 4,
                "evidence": ["D1:2"],
                "answer": "Hubert",
            },
            {"question": "When did the oven break?", "category": 2, "evidence": ["D1:3"], "answer": "Thursday"},
            {"question": "What does nobody know?", "category": 3, "evidence": [], "answer": ""},
        ],
    )
    sailing = conversation(
        "sailing",
        ["Oda", "Wim"],
        SAILING,
        [
            {"question": "What did the storm tear?", "category": 1, "evidence": ["D1:4"], "answer": "the spinnaker"},
            {"question": "Which lighthouse did they paint?", "category": 5, "evidence": ["D1:2"], "answer": ""},
        ],
    )
    sailing["turns"][3]["photo_caption"] = "a torn sail on a quay"
    file = tmp_path / "locomo.json"
    file.write_text(json.dumps([bakery, sailing]), encoding="utf-8")
    return file


def assert_says_where_it_ran(report: dict[str, Any]) -> None:
    assert report["aico"]
    assert {"cpu", "cores", "platform", "file_system", "python", "sqlite", "load_before"} <= report["machine"].keys()
    assert {"sqlite3", "apsw"} <= report["machine"]["sqlite"].keys()


def test_locomo_finds_turns_that_share_the_words_of_the_question(locomo_file: Path) -> None:
    report = run_bench("locomo", "--data", str(locomo_file))
    assert report["bench"] == "locomo"
    assert report["overall"]["questions"] == 3  # one has no evidence, one is adversarial
    assert report["overall"]["any@10"] == report["overall"]["recall@10"] == 1
    assert 0 < report["overall"]["mrr"] <= 1
    assert report["overall"]["context@150"] == report["overall"]["context@1000"] == 1  # all of it fits
    assert report["categories"]["3"]["context@600"] is None
    assert {name: group["questions"] for name, group in report["categories"].items()} == {
        "1": 1,
        "2": 1,
        "3": 0,
        "4": 1,
    }
    assert report["categories"]["3"]["any@10"] is None
    assert report["adversarial"]["questions"] == 1
    assert {"open_s", "record_s", "first_recall_p50_ms", "recall_p50_ms", "recall_p95_ms", "context_p50_ms"} <= report[
        "times"
    ].keys()
    assert report["parameters"]["data"] == locomo_file.name
    assert_says_where_it_ran(report)


def test_locomo_keeps_conversations_apart_in_one_store(locomo_file: Path) -> None:
    report = run_bench("locomo", "--data", str(locomo_file), "--one-store")
    assert report["parameters"]["one_store"] is True
    assert report["overall"]["recall@10"] == 1


def test_locomo_reads_only_as_many_conversations_as_it_is_asked_to(locomo_file: Path) -> None:
    report = run_bench("locomo", "--data", str(locomo_file), "--limit-conversations", "1")
    assert report["parameters"]["messages"] == len(BAKERY)
    assert report["overall"]["questions"] == 2


@pytest.fixture
def xquad_folder(tmp_path: Path) -> Path:
    paragraphs = {
        "en": [("The bridge over the river was built in 1905.", "When was the bridge built?"), BREAD_EN],
        "de": [("Die Brücke über den Fluss wurde 1905 gebaut.", "Wann wurde die Brücke gebaut?"), BREAD_DE],
    }
    for name, texts in paragraphs.items():
        found = [{"context": context, "qas": [{"question": asked}]} for context, asked in texts]
        whole = {"data": [{"title": "some", "paragraphs": found}], "version": "1.1"}
        (tmp_path / f"xquad-{name}.json").write_text(json.dumps(whole))
    return tmp_path


def test_xquad_asks_within_each_language_and_from_english_to_the_others(xquad_folder: Path) -> None:
    report = run_bench("xquad", "--data", str(xquad_folder))
    assert [(found["asked"], found["kept"]) for found in report["pairs"]] == [("de", "de"), ("en", "en"), ("en", "de")]
    assert [found["recall@1"] for found in report["pairs"][:2]] == [1, 1]
    assert all(found["questions"] == 2 for found in report["pairs"])
    assert_says_where_it_ran(report)


@pytest.mark.skipif(not can_run_default_model(), reason="the default model is not installed")
def test_xquad_judges_the_model_by_its_vectors_alone(xquad_folder: Path) -> None:
    report = run_bench("xquad", "--vectors-only", "--data", str(xquad_folder), "--limit-questions", "1")
    assert report["parameters"]["model"] == "multilingual-e5-small/q4"
    assert [found["recall@1"] for found in report["pairs"]] == [1, 1, 1]


@pytest.mark.skipif(not can_run_default_model(), reason="the default model is not installed")
def test_embed_measures_time_and_memory_of_the_default_model() -> None:
    report = run_bench("embed", "--queries", "3", "--passages", "9")
    assert report["model"] == "multilingual-e5-small/q4"
    assert 0 < report["rss_empty_mb"] < report["rss_loaded_mb"]
    assert report["query_cpu_ms"] > 0 < report["passage_cpu_ms"]
    assert_says_where_it_ran(report)


def test_storage_compares_with_every_peer_that_is_installed_and_names_the_others() -> None:
    report = run_bench("storage", "--rows", "200", "--commits", "10", "--rounds", "1")
    installed = find_spec("sqlcipher3") is not None
    peers = {"sqlite3", "apsw", *(["sqlcipher3"] if installed else [])}
    assert report["missing"] == ([] if installed else ["sqlcipher3"])
    assert {row["engine"] for row in report["medians"]} == {"sealed", "aico connection", *peers}
    assert {(row["ours"], row["peer"]) for row in report["ratios"]} == {
        (ours, peer) for ours in ("sealed", "aico connection") for peer in peers
    }
    assert all(value > 0 for row in report["medians"] for name, value in row.items() if name != "engine")
    assert_says_where_it_ran(report)


def test_hot_reads_back_what_it_put_beside_every_peer_that_is_installed() -> None:
    report = run_bench("hot", "--turns", "100", "--conversations", "4", "--records", "50")
    assert ("diskcache" in report["missing"]) == (find_spec("diskcache") is None)
    assert set(report["engines"]) == {"hot tier", "diskcache", "redis"} - set(report["missing"])
    assert set(report["vault"]) == {"record", "record, cold", "recent", "recent, truth"}
    assert set(report["engines"]["hot tier"]) == {"put_p50_us", "put_p99_us", "recent_p50_us", "recent_p99_us"}


def test_views_measure_each_part_and_lose_nothing() -> None:
    report = run_bench(
        "views", "--turns", "100", "--records", "50", "--messages", "300", "--processes", "2", "--seconds", "0.3"
    )
    assert report["writers"]["lost"] == 0
    assert report["writers"]["errors"] == {}
    assert report["seen_by_another_process"]["seen"] == 50
    assert set(report["change_feed"]) == {"single_times_the_time", "bulk_times_the_time"}
    assert report["record"]["times_a_bare_commit"] > 0
    assert_says_where_it_ran(report)


def test_writers_lose_nothing_and_meet_no_error() -> None:
    report = run_bench("writers", "--processes", "2", "--threads", "2", "--seconds", "0.3")
    assert report["lost"] == 0
    assert report["errors"] == {}
    assert sum(report["by_process"]) == report["records"] > 0
    assert_says_where_it_ran(report)


def test_storm_loses_nothing_and_finds_no_lock_in_the_way() -> None:
    sizes = ("--processes", "3", "--kills", "12", "--rotation-kills", "12", "--writers", "8", "--operations", "4000")
    report = run_bench("storm", *sizes, "--part", "kills", "--part", "rotation", "--part", "writers")
    assert report["wrong"] == []
    kills, rotation, writers = (report["parts"][part] for part in ("kills", "rotation", "writers"))
    assert (kills["kills"], rotation["kills"]) == (12, 12)
    assert kills["errors"] == rotation["errors"] == writers["errors"] == {}
    assert kills["acknowledged"] > 0
    assert (writers["acknowledged"], writers["lost"], writers["integrity"]) == (4000, 0, "ok")


def test_arrival_brings_everything_in_once_and_leaves_nothing_readable() -> None:
    report = run_bench("arrival", "--n", "400")
    assert (report["added"], report["repeated"], report["messages_after_resume"]) == (400, 0, 400)
    assert report["killed_kept"] + report["resumed_added"] == 400
    assert (report["canary_hits"], report["round_trip_identical"]) == (0, True)
    assert report["control_hits"] > 0
    assert report["progress_steps"] > 1
    assert_says_where_it_ran(report)


def test_repositories_answers_every_usual_question_by_an_index() -> None:
    report = run_bench("repositories", "--scale", "0.001", "--repeats", "2")
    assert report["without_index"] == []
    assert set(report["inserts_per_s"]) == {"messages", "facts", "logs", "feedback"}
    assert all(found["p95_ms"] >= found["p50_ms"] > 0 for found in report["questions"].values())
    assert_says_where_it_ran(report)


def test_repositories_names_a_table_that_is_read_from_end_to_end() -> None:
    with temporary_vault() as vault:
        question = Question("all texts", lambda v, _filled, _draw: v.connection.fetch_all("SELECT text FROM messages"))
        assert full_scans(vault, Filled(), question) == ["messages"]


def test_analytics_gives_the_same_rows_from_columns_and_from_the_store():
    pytest.importorskip("duckdb", reason="analytics needs the extra aico[analytics]")
    report = run_bench("analytics", "--messages", "2000")
    assert len(report["questions"]) == 5
    assert report["ratio_least"] > 0 and report["refresh_ms"] > 0


def test_recall_is_measured_while_others_write_and_from_process_to_process() -> None:
    report = run_bench("recall", "--n", "2100", "--questions", "5", "--arrivals", "2", "--peer-most", "0")
    [size] = report["sizes"]
    assert (size["n"], size["recall@10"]) == (2100, 1)  # so few are compared one by one
    assert {"recall_p50_ms", "recall_p95_ms", "index_p50_ms", "index_p95_ms"} == set(size["while written"])
    assert size["arrival"]["p95_ms"] > 0 < size["built"]["snapshot_mb"]
    assert ("chromadb" in report["missing"]) == (find_spec("chromadb") is None)
    assert_says_where_it_ran(report)


def test_a_day_over_mcp_loses_nothing_though_two_servers_are_killed() -> None:
    pytest.importorskip("mcp", reason="an MCP server needs the extra aico[mcp]")
    report = run_bench("assistant", "--calls", "60", "--messages", "100")
    assert (report["lost"], report["back"], report["lock_errors"], report["killed"]) == (0, 0, 0, 2)
    assert report["calls"] >= 60
    assert report["doctor_found"] == []


def test_the_companion_set_names_only_turns_that_are_there_and_is_asked_in_five_languages():
    people = companion.load()
    for person in people:
        turns = {message.source_id for message in person.messages}
        assert all(evidence <= turns and evidence for _, _, evidence, _ in person.questions)
    assert sum(len(person.questions) for person in people) == 200
    report = run_bench("companion", "--embedder", "none")
    assert set(report["languages"]) == {"de", "en", "es", "fr", "zh"}
    assert report["overall"]["any@10"] > 0.5


@pytest.mark.skipif(find_spec("atheris") is None, reason="fuzzing needs the group fuzz")
def test_fuzz_counts_what_became_of_every_input() -> None:
    report = run_bench("fuzz", "--inputs", "3000", "--decoder", "sealed value", "--decoder", "page map, inside")
    assert (report["escaped"], report["ended early"]) == (0, [])
    assert report["inputs"] >= 3000
    assert all(one["answered"] and one["refused"] for one in report["decoders"].values())


def test_weights_are_fitted_without_the_conversation_they_are_tried_on(locomo_file: Path) -> None:
    before = (Path(memory_weights.__file__).with_name("weights.json")).read_bytes()
    report = run_bench("fit_ranker", "--data", str(locomo_file), "--rounds", "1")
    assert report["fitted"]["by_words"]["any@50"] == 1.0
    assert set(report["held_out"]) == set(report["ablation"]["without the episode"]) == {"by_words", "by_meaning"}
    kept = [one["evidence_kept"] for one in report["probabilities"]["by_words"]["score_min"].values()]
    assert kept == sorted(kept, reverse=True)
    assert (Path(memory_weights.__file__).with_name("weights.json")).read_bytes() == before, "only --write writes"


def test_the_weights_of_this_release_say_where_they_come_from() -> None:
    assert memory_weights.FITTED.made_by.startswith("python -m bench fit_ranker on ")
