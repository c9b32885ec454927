"""The graph in the repository is what its generator writes, and holds no weights."""

import importlib.util
from importlib.resources import files
from pathlib import Path

import pytest

GENERATOR = Path(__file__).parents[3] / "tools/e5_graph.py"


def test_the_graph_is_what_the_generator_writes():
    onnx = pytest.importorskip("onnx", reason="the graph's generator needs onnx (group tools)")
    spec = importlib.util.spec_from_file_location("e5_graph", GENERATOR)
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    kept = files("aico.ai.embedding").joinpath("e5-small.onnx").read_bytes()
    assert onnx.load_from_string(kept) == onnx.load_from_string(generator.contents())
    assert all(not weight.raw_data for weight in onnx.load_from_string(kept).graph.initializer)
