"""Quantises two models with Apple's MLX as mlx-lm and mlx-embeddings do, and computes their vectors with MLX.

- all-MiniLM-L6-v2 in 4 and in 8 bits, groups of 64, from F16: every matrix and every table, names as in the checkpoint.
  The weights are not committed: the tests quantise the checkpoint themselves by the formula in MLX's documentation, and
  the digests here say whether their bytes are MLX's.
- `mlx-qwen3-small/`: qwen3-small with the prefix and the settings that mlx-lm writes, 4 bits in groups of 64 and, module
  by module, every other width that MLX has and one matrix that is not quantised. Committed.

The forward passes are written from the architectures; every product with a quantised matrix is
`mx.quantized_matmul`, in single precision. Usage: make_mlx_models.py CHECKPOINT_FOLDER (of MiniLM), with
`mlx[cpu]==0.32.4`, tokenizers, safetensors and numpy.
"""

import hashlib
import json
import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from tokenizers import Tokenizer

from common import HERE, sha256, spread, texts, versions, write

LONGEST = 256
GROUP = 64
QWEN3_OWN = {
    "layers.0.mlp.down_proj": {"group_size": 32, "bits": 8},
    "layers.1.mlp.up_proj": {"group_size": 64, "bits": 6},
    "layers.1.self_attn.v_proj": {"group_size": 32, "bits": 5},
    "layers.2.self_attn.q_proj": {"group_size": 64, "bits": 3},
    "layers.2.mlp.down_proj": {"group_size": 128, "bits": 4},
    "layers.3.mlp.gate_proj": {"group_size": 32, "bits": 2},
    "layers.3.self_attn.o_proj": False,
}


class Weights:
    """Tensors by name; those that are quantised are never widened as a whole."""

    def __init__(self, tensors: dict[str, mx.array]):
        self.tensors = tensors
        self.packing = {}

    def quantise(self, module: str, bits: int, group: int) -> None:
        packed, scales, biases = mx.quantize(self.tensors[f"{module}.weight"], group_size=group, bits=bits)
        self.tensors |= {f"{module}.weight": packed, f"{module}.scales": scales, f"{module}.biases": biases}
        self.packing[module] = {"group_size": group, "bits": bits}

    def single(self, name: str) -> mx.array:
        return self.tensors[name].astype(mx.float32)

    def linear(self, module: str, x: mx.array) -> mx.array:
        if module in self.packing:
            scales, biases = self.single(f"{module}.scales"), self.single(f"{module}.biases")
            packed = self.tensors[f"{module}.weight"]
            x = mx.quantized_matmul(x, packed, scales, biases, transpose=True, **self.packing[module])
        else:
            x = x @ self.single(f"{module}.weight").T
        return x + self.single(f"{module}.bias") if f"{module}.bias" in self.tensors else x

    def rows(self, module: str, ids: mx.array) -> mx.array:
        if module not in self.packing:
            return self.single(f"{module}.weight")[ids]
        parts = [self.tensors[f"{module}.{part}"][ids] for part in ("weight", "scales", "biases")]
        packed, scales, biases = parts
        scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
        return mx.dequantize(packed, scales, biases, **self.packing[module])


def attention(q: mx.array, k: mx.array, v: mx.array, causal: bool) -> mx.array:
    """One text: `[heads, tokens, width]` each, to `[tokens, heads * width]`."""
    scores = q @ k.transpose(0, 2, 1) * q.shape[-1] ** -0.5
    if causal:
        scores = mx.where(mx.tri(scores.shape[-1]) > 0, scores, -mx.inf)
    return (mx.softmax(scores, axis=-1) @ v).transpose(1, 0, 2).reshape(q.shape[1], -1)


def unit(vector: mx.array) -> np.ndarray:
    return np.array(vector / mx.linalg.norm(vector))


def bert(weights: Weights, config: dict, ids: list[int]) -> np.ndarray:
    """The mean of the last hidden states, of length 1."""
    def norm(module: str, x: mx.array) -> mx.array:
        scale, shift = weights.single(f"{module}.weight"), weights.single(f"{module}.bias")
        return mx.fast.layer_norm(x, scale, shift, config["layer_norm_eps"])

    x = weights.rows("embeddings.word_embeddings", mx.array(ids))
    x = x + weights.rows("embeddings.position_embeddings", mx.arange(len(ids)))
    x = norm("embeddings.LayerNorm", x + weights.rows("embeddings.token_type_embeddings", mx.array([0])))
    heads = config["num_attention_heads"]
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        split = lambda name: weights.linear(f"{layer}.attention.self.{name}", x).reshape(len(ids), heads, -1).transpose(1, 0, 2)
        mixed = attention(split("query"), split("key"), split("value"), causal=False)
        x = norm(f"{layer}.attention.output.LayerNorm", x + weights.linear(f"{layer}.attention.output.dense", mixed))
        inner = nn.gelu(weights.linear(f"{layer}.intermediate.dense", x))
        x = norm(f"{layer}.output.LayerNorm", x + weights.linear(f"{layer}.output.dense", inner))
    return unit(x.mean(axis=0))


def qwen3(weights: Weights, config: dict, ids: list[int]) -> np.ndarray:
    """The last token's hidden state, of length 1."""
    width, theta = config["head_dim"], config["rope_parameters"]["rope_theta"]
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    norm = lambda name, x: mx.fast.rms_norm(x, weights.single(f"{name}.weight"), config["rms_norm_eps"])
    x = weights.rows("embed_tokens", mx.array(ids))
    for number in range(config["num_hidden_layers"]):
        layer = f"layers.{number}"
        normed = norm(f"{layer}.input_layernorm", x)
        split = lambda name, count: weights.linear(f"{layer}.self_attn.{name}_proj", normed).reshape(len(ids), count, width)
        turn = lambda it: mx.fast.rope(it.transpose(1, 0, 2)[None], width, traditional=False, base=theta, scale=1.0, offset=0)[0]
        q = turn(norm(f"{layer}.self_attn.q_norm", split("q", heads)))
        k = turn(norm(f"{layer}.self_attn.k_norm", split("k", groups)))
        v = split("v", groups).transpose(1, 0, 2)
        k, v = (mx.repeat(it, heads // groups, axis=0) for it in (k, v))
        x = x + weights.linear(f"{layer}.self_attn.o_proj", attention(q, k, v, causal=True))
        normed = norm(f"{layer}.post_attention_layernorm", x)
        gate = nn.silu(weights.linear(f"{layer}.mlp.gate_proj", normed))
        x = x + weights.linear(f"{layer}.mlp.down_proj", gate * weights.linear(f"{layer}.mlp.up_proj", normed))
    return unit(norm("norm", x)[-1])


def digest(weights: Weights) -> str:
    """Of the integers, scales and biases of all quantised modules but the pooler's, which no one reads."""
    hash = hashlib.sha256()
    for module in sorted(weights.packing):
        if not module.startswith("pooler."):
            for part in ("weight", "scales", "biases"):
                tensor = weights.tensors[f"{module}.{part}"]
                hash.update(np.array(tensor if part == "weight" else tensor.view(mx.uint16)).tobytes())
    return hash.hexdigest()


def minilm(folder: Path) -> tuple[dict, dict]:
    config = json.loads((folder / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    indices = list(range(0, len(texts()), 4))
    ids = [tokenizer.encode(texts()[index]).ids for index in indices]
    values, digests = {"minilm_indices": np.array(indices, dtype=np.int64)}, {}
    for bits in (4, 8):
        tensors = mx.load(str(folder / "model.safetensors"))
        weights = Weights({name: it.astype(mx.float16) for name, it in tensors.items() if it.dtype == mx.float32})
        for name, tensor in list(weights.tensors.items()):
            if tensor.ndim == 2 and tensor.shape[-1] % GROUP == 0:
                weights.quantise(name.removesuffix(".weight"), bits, GROUP)
        digests[f"minilm_{bits}"] = digest(weights)
        values[f"minilm_{bits}"] = np.stack([bert(weights, config, row) for row in ids])
    return values, digests


def qwen3_small() -> dict:
    source, target = HERE / "qwen3-small", HERE / "mlx-qwen3-small"
    config = json.loads((source / "config.json").read_text())
    weights = Weights(mx.load(str(source / "model.safetensors")))
    for name, tensor in list(weights.tensors.items()):
        module = name.removesuffix(".weight")
        own = QWEN3_OWN.get(module, {"bits": 4, "group_size": GROUP})
        if tensor.ndim == 2 and own:
            weights.quantise(module, own["bits"], own["group_size"])
    target.mkdir(exist_ok=True)
    named = {f"model.{name}": tensor for name, tensor in weights.tensors.items()}
    mx.save_safetensors(str(target / "model.safetensors"), named, metadata={"format": "mlx"})
    quantisation = {"group_size": GROUP, "bits": 4, "mode": "affine"}
    quantisation |= {f"model.{module}": own for module, own in QWEN3_OWN.items()}
    config |= {"quantization": quantisation, "quantization_config": quantisation}
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    indices = list(range(0, len(texts()), 4))
    rows = [qwen3(weights, config, tokenizer.encode(texts()[index]).ids) for index in indices]
    return {"qwen3_indices": np.array(indices, dtype=np.int64), "qwen3": np.stack(rows)}


def main() -> None:
    values, digests = minilm(Path(sys.argv[1]))
    values |= qwen3_small()
    files = ("config.json", "model.safetensors")
    write("mlx-models", values, {
        "checkpoint": {name: sha256(HERE / "mlx-qwen3-small" / name) for name in files},
        "quantised": digests,
        "versions": versions("mlx", "tokenizers", "numpy"),
        "spread": {name: spread(rows) for name, rows in values.items() if rows.ndim == 2},
    })


if __name__ == "__main__":
    main()
