"""A cross-encoder in a folder, tiny and honest: its logit counts the words that question and text share, less a half."""

from pathlib import Path

import pytest

from tests.ai.embedding.conftest import server as server

WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "where",
    "is",
    "my",
    "red",
    "bicycle",
    "stands",
    "in",
    "the",
    "cellar",
    "soup",
)


def write_cross_encoder(folder: Path, *, classes: int = 1, extra_input: bool = False) -> Path:
    """`model.onnx` and `tokenizer.json` as an export of a BERT classifier with one score or two classes has them."""
    pytest.importorskip("onnx", reason="the tests' model is written with onnx (group tools)")
    pytest.importorskip("tokenizers", reason="cross-encoders need the extra aico[rerank]")
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder / "tokenizer.json")
    _write_graph(folder / "model.onnx", classes=classes, extra_input=extra_input)
    return folder


@pytest.fixture
def cross_encoder_folder(tmp_path: Path) -> Path:
    return write_cross_encoder(tmp_path / "shared-words")


def _write_tokenizer(file: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", WORDS.index("[CLS]")), ("[SEP]", WORDS.index("[SEP]"))],
    )
    tokenizer.save(str(file))


def _write_graph(file: Path, *, classes: int, extra_input: bool) -> None:
    """1 for each pair of equal known words, one of them in the question and the other in the text."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def constant(name, value):
        return numpy_helper.from_array(np.array(value), name)

    nodes = [
        helper.make_node("Greater", ["input_ids", "last_special"], ["is_word"]),
        helper.make_node("Cast", ["is_word"], ["word"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["token_type_ids"], ["type"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["attention_mask"], ["there"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["word", "there"], ["counts"]),
        helper.make_node("Mul", ["counts", "type"], ["text"]),
        helper.make_node("Sub", ["counts", "text"], ["question"]),
        helper.make_node("Unsqueeze", ["input_ids", "two"], ["down"]),
        helper.make_node("Unsqueeze", ["input_ids", "one"], ["across"]),
        helper.make_node("Equal", ["down", "across"], ["same"]),
        helper.make_node("Cast", ["same"], ["equal"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["question", "two"], ["asked"]),
        helper.make_node("Unsqueeze", ["text", "one"], ["said"]),
        helper.make_node("Mul", ["asked", "said"], ["between"]),
        helper.make_node("Mul", ["equal", "between"], ["shared"]),
        helper.make_node("ReduceSum", ["shared", "both"], ["sum"], keepdims=0),
        helper.make_node("Sub", ["sum", "half"], ["score"]),
        helper.make_node("Unsqueeze", ["score", "one"], ["relevant"]),
        helper.make_node("Neg", ["relevant"], ["irrelevant"]),
        helper.make_node("Concat", ["irrelevant", "relevant"] if classes == 2 else ["relevant"] * classes, ["logits"], axis=1),
    ]  # fmt: skip
    names = ["input_ids", "attention_mask", "token_type_ids", *(["pixel_values"] if extra_input else [])]
    graph = helper.make_graph(
        nodes,
        "shared words",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "tokens"]) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])],
        [
            constant("last_special", np.int64(3)),
            constant("one", np.array([1], np.int64)),
            constant("two", np.array([2], np.int64)),
            constant("both", np.array([1, 2], np.int64)),
            constant("half", np.float32(0.5)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, file)
