"""Writes a BERT sentence encoder from a safetensors checkpoint as an ONNX graph, node by node.

Needs numpy and onnx alone, so that the benchmark's environment holds no PyTorch. The graph goes from token ids to
the pooled (mean or first token), L2-normalised vector: `input_ids` and `attention_mask` [batch, sequence] int64 in,
`embedding` [batch, hidden] float32 out. It is what onnxruntime runs in `bench.py`, and the second opinion on the
expected values in `tests/truth/make_minilm.py`. It is no general exporter: absolute positions, exact GELU only.
"""

import json
import logging
import struct
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
NUMPY_TYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a file, by name. BF16 is not read."""
    data = path.read_bytes()
    (header_length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + header_length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + header_length + offset for offset in entry["data_offsets"])
        values = np.frombuffer(data[begin:end], dtype=NUMPY_TYPES[entry["dtype"]])
        tensors[name.removeprefix("bert.")] = values.reshape(entry["shape"])
    return tensors


class Graph:
    """Collects nodes and weights under readable names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}

    def weight(self, name: str, values: np.ndarray) -> str:
        """Adds an initializer once and returns its name."""
        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(np.array(values, order="C"), name)
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes) -> str:
        """Adds a node with one output and returns that output's name."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output


class Encoder:
    """Adds the parts of one BERT to a graph."""

    def __init__(self, graph: Graph, config: dict, tensors: dict[str, np.ndarray]) -> None:
        if config.get("hidden_act") != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
            raise ValueError("only exact GELU and absolute positions are written")
        self.graph, self.config, self.tensors = graph, config, tensors
        self.heads = config["num_attention_heads"]
        self.head_width = config["hidden_size"] // self.heads

    def linear(self, source: str, prefix: str, output: str) -> str:
        """x W^T + b; the weight is transposed here, as exporters do."""
        weight = self.graph.weight(f"{prefix}.weight_t", self.tensors[f"{prefix}.weight"].astype(np.float32).T)
        bias = self.graph.weight(f"{prefix}.bias", self.tensors[f"{prefix}.bias"].astype(np.float32))
        product = self.graph.node("MatMul", [source, weight], f"{output}.product")
        return self.graph.node("Add", [product, bias], output)

    def layer_norm(self, source: str, prefix: str, output: str) -> str:
        """LayerNorm over the last axis."""
        inputs = [source]
        for part in ("weight", "bias"):
            inputs.append(self.graph.weight(f"{prefix}.{part}", self.tensors[f"{prefix}.{part}"].astype(np.float32)))
        epsilon = self.config["layer_norm_eps"]
        return self.graph.node("LayerNormalization", inputs, output, axis=-1, epsilon=epsilon)

    def embeddings(self) -> str:
        """Word, position and segment (always the first) rows, added and normalised."""
        graph, tensors = self.graph, self.tensors
        words = graph.weight("embeddings.words", tensors["embeddings.word_embeddings.weight"].astype(np.float32))
        word_rows = graph.node("Gather", [words, "input_ids"], "embeddings.word_rows", axis=0)
        segment = tensors["embeddings.token_type_embeddings.weight"][0]
        places = tensors["embeddings.position_embeddings.weight"] + segment
        positions = graph.weight("embeddings.positions_and_segment", places.astype(np.float32))
        shape = graph.node("Shape", ["input_ids"], "embeddings.length", start=1, end=2)
        zero = graph.weight("zero", np.array([0], dtype=np.int64))
        position_rows = graph.node("Slice", [positions, zero, shape, zero], "embeddings.position_rows")
        added = graph.node("Add", [word_rows, position_rows], "embeddings.added")
        return self.layer_norm(added, "embeddings.LayerNorm", "embeddings.output")

    def split_heads(self, source: str, output: str, order: list[int]) -> str:
        """[batch, sequence, hidden] to heads, in the axis order that the next product needs."""
        shape = self.graph.weight("heads.shape", np.array([0, 0, self.heads, self.head_width], dtype=np.int64))
        split = self.graph.node("Reshape", [source, shape], f"{output}.split")
        return self.graph.node("Transpose", [split], output, perm=order)

    def attention(self, source: str, mask: str, prefix: str) -> str:
        """Softmax attention with the residual and its LayerNorm."""
        graph = self.graph
        query = self.split_heads(self.linear(source, f"{prefix}.self.query", f"{prefix}.q"), f"{prefix}.qh", [0, 2, 1, 3])
        key = self.split_heads(self.linear(source, f"{prefix}.self.key", f"{prefix}.k"), f"{prefix}.kh", [0, 2, 3, 1])
        value = self.split_heads(self.linear(source, f"{prefix}.self.value", f"{prefix}.v"), f"{prefix}.vh", [0, 2, 1, 3])
        scale = graph.weight("heads.scale", np.array(1.0 / np.sqrt(self.head_width), dtype=np.float32))
        scores = graph.node("MatMul", [query, key], f"{prefix}.scores")
        scaled = graph.node("Mul", [scores, scale], f"{prefix}.scaled")
        masked = graph.node("Add", [scaled, mask], f"{prefix}.masked")
        shares = graph.node("Softmax", [masked], f"{prefix}.shares", axis=-1)
        mixed = graph.node("MatMul", [shares, value], f"{prefix}.mixed")
        rows = graph.node("Transpose", [mixed], f"{prefix}.rows", perm=[0, 2, 1, 3])
        joined_shape = graph.weight("heads.joined", np.array([0, 0, self.heads * self.head_width], dtype=np.int64))
        joined = graph.node("Reshape", [rows, joined_shape], f"{prefix}.joined")
        projected = self.linear(joined, f"{prefix}.output.dense", f"{prefix}.projected")
        added = graph.node("Add", [projected, source], f"{prefix}.residual")
        return self.layer_norm(added, f"{prefix}.output.LayerNorm", f"{prefix}.done")

    def layer(self, source: str, mask: str, index: int) -> str:
        """One encoder layer."""
        prefix = f"encoder.layer.{index}"
        attended = self.attention(source, mask, f"{prefix}.attention")
        wide = self.linear(attended, f"{prefix}.intermediate.dense", f"{prefix}.wide")
        active = self.graph.node("Gelu", [wide], f"{prefix}.active")
        narrow = self.linear(active, f"{prefix}.output.dense", f"{prefix}.narrow")
        added = self.graph.node("Add", [narrow, attended], f"{prefix}.residual")
        return self.layer_norm(added, f"{prefix}.output.LayerNorm", f"{prefix}.done")

    def mask(self) -> str:
        """0 where a token is, a very negative number where padding is, as [batch, 1, 1, sequence]."""
        graph = self.graph
        as_float = graph.node("Cast", ["attention_mask"], "mask.float", to=TensorProto.FLOAT)
        axes = graph.weight("mask.axes", np.array([1, 2], dtype=np.int64))
        wide = graph.node("Unsqueeze", [as_float, axes], "mask.wide")
        one = graph.weight("mask.one", np.array(1.0, dtype=np.float32))
        padding = graph.node("Sub", [one, wide], "mask.padding")
        far = graph.weight("mask.far", np.array(-1.0e9, dtype=np.float32))
        return graph.node("Mul", [padding, far], "mask.bias")

    def pool(self, hidden: str, pooling: str) -> str:
        """Mean over the tokens, or the first token's row; then L2."""
        graph = self.graph
        if pooling == "cls":
            first = graph.weight("pool.first", np.array(0, dtype=np.int64))
            pooled = graph.node("Gather", [hidden, first], "pooled", axis=1)
        else:
            last = graph.weight("pool.last_axis", np.array([2], dtype=np.int64))
            middle = graph.weight("pool.sequence_axis", np.array([1], dtype=np.int64))
            column = graph.node("Unsqueeze", ["mask.float", last], "pool.column")
            kept = graph.node("Mul", [hidden, column], "pool.kept")
            total = graph.node("ReduceSum", [kept, middle], "pool.total", keepdims=0)
            count = graph.node("ReduceSum", [column, middle], "pool.count", keepdims=0)
            pooled = graph.node("Div", [total, count], "pooled")
        width = graph.weight("pool.width_axis", np.array([1], dtype=np.int64))
        length = graph.node("ReduceL2", [pooled, width], "pool.length", keepdims=1)
        return graph.node("Div", [pooled, length], "embedding")


def write_bert_onnx(checkpoint: Path, output: Path, pooling: str = "mean") -> None:
    """Writes `checkpoint`/{config.json, model.safetensors} to `output` in float32."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    graph = Graph()
    encoder = Encoder(graph, config, read_safetensors(checkpoint / "model.safetensors"))
    hidden, mask = encoder.embeddings(), encoder.mask()
    for index in range(config["num_hidden_layers"]):
        hidden = encoder.layer(hidden, mask, index)
    encoder.pool(hidden, pooling)
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask")]
    vector = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", config["hidden_size"]])
    body = helper.make_graph(graph.nodes, "bert", ids, [vector], list(graph.weights.values()))
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="embedbar-bench")
    model.ir_version = 10
    onnx.checker.check_model(model)
    onnx.save(model, str(output))


def quantize_int8(source: Path, output: Path) -> None:
    """onnxruntime's own dynamic INT8: weights per output channel, activations at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # It advises a shape inference that changes nothing for this graph.
    logging.disable(logging.WARNING)
    quantize_dynamic(str(source), str(output), per_channel=True, weight_type=QuantType.QInt8)
    logging.disable(logging.NOTSET)
