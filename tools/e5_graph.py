"""Write the graph of multilingual-e5-small's encoder, without weights: `uv run --group tools python tools/e5_graph.py`.

The architecture is BERT's (Devlin et al., 2019, arXiv:1810.04805) with 12 layers, 12 heads, 384 and 1,536 wide, written
with ONNX Runtime's own operators where they fuse several steps. In goes the sum of word, position and type rows, out come
the token vectors. Weights are named and have a shape; `aico.ai.embedding.e5_encoder` hands them over.
"""

from pathlib import Path

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

TARGET = Path(__file__).parents[1] / "src/aico/ai/embedding/e5-small.onnx"
LAYERS, HEADS, WIDTH, INNER_WIDTH = 12, 12, 384, 1536
EPSILON = 1e-12
PARTS = 4
CONTRIB = "com.microsoft"
FLOAT, INT8, INT32 = TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT32


class Graph:
    """Collects nodes, and the weights they name."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def weight(self, name: str, kind: int, *shape: int) -> str:
        """A weight that is handed over when the graph is loaded."""
        tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="handed over in memory")
        self.weights.append(tensor)
        return name

    def node(
        self, operator: str, inputs: list[str], output: str, *, domain: str = CONTRIB, **attributes: object
    ) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def int8(self, value: str, name: str, inputs: int, outputs: int, *, part: str = "", bias: bool = True) -> str:
        """`value` times a matrix of 8-bit integers, plus a bias; the value is turned into integers on the way."""
        weights = self.weight(f"{name}.w.values{part}", INT8, inputs, outputs)
        scales = self.weight(f"{name}.w.scales{part}", FLOAT, outputs)
        added = [self.weight(f"{name}.b", FLOAT, outputs)] if bias else []
        return self.node("DynamicQuantizeMatMul", [value, weights, scales, "", *added], f"{name}{part}")

    def int8_in_parts(self, value: str, name: str, inputs: int, outputs: int) -> str:
        """The same in four parts, each with a scale of its own: for a value with outliers, which spoil one part only."""
        parts = [f"{value}.{number}" for number in range(PARTS)]
        self.nodes.append(helper.make_node("Split", [value], parts, name=f"{name}.split", axis=-1))
        terms = [
            self.int8(part, name, inputs // PARTS, outputs, part=f".{number}", bias=number == 0)
            for number, part in enumerate(parts)
        ]
        return self.node("Sum", terms, name, domain="")

    def norm(self, operator: str, inputs: list[str], name: str, output: str, **attributes: object) -> str:
        scale, shift = self.weight(f"{name}.w", FLOAT, WIDTH), self.weight(f"{name}.b", FLOAT, WIDTH)
        return self.node(operator, [*inputs, scale, shift], output, epsilon=EPSILON, **attributes)

    def layer(self, value: str, number: int, output: str) -> str:
        """Attention among the text's tokens, then two matrices for each token; each adds to what came in."""
        at = f"l{number}"
        query, key, content = (self.int8(value, f"{at}.{part}", WIDTH, WIDTH) for part in "qkv")
        seen = self.node("MultiHeadAttention", [query, key, content, "", "lengths"], f"{at}.attention", num_heads=HEADS)
        attended = self.int8(seen, f"{at}.ao", WIDTH, WIDTH)
        middle = self.norm("SkipLayerNormalization", [value, attended], f"{at}.aln", f"{at}.middle")
        inner = self.node("Gelu", [self.int8(middle, f"{at}.fi", WIDTH, INNER_WIDTH)], f"{at}.gelu")
        outer = self.int8_in_parts(inner, f"{at}.fo", INNER_WIDTH, WIDTH)
        return self.norm("SkipLayerNormalization", [middle, outer], f"{at}.oln", output)


def encoder() -> ModelProto:
    graph = Graph()
    value = graph.norm("LayerNormalization", ["words"], "emb.ln", "layer0", domain="", axis=-1)
    for number in range(LAYERS):
        value = graph.layer(value, number, f"layer{number + 1}" if number < LAYERS - 1 else "tokens")
    whole = helper.make_graph(
        graph.nodes,
        "multilingual-e5-small",
        [described("words", FLOAT, "texts", "length", WIDTH), described("lengths", INT32, "texts")],
        [described("tokens", FLOAT, "texts", "length", WIDTH)],
        graph.weights,
    )
    versions = [helper.make_opsetid("", 17), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(whole, opset_imports=versions, ir_version=8, producer_name="aico")


def described(name: str, kind: int, *shape: str | int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def contents() -> bytes:
    """The file's bytes; the same on every run."""
    return encoder().SerializeToString(deterministic=True)


if __name__ == "__main__":
    TARGET.write_bytes(contents())
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")
