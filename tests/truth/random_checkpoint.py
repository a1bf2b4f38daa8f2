"""Writes checkpoints with random weights of a given structure, one tensor at a time, so that size does not matter.

The numbers are scaled so that a change in any part shows in the vector: norm weights differ from 1 (a forgotten norm
is seen), query and key norms are above 1 (attention is not uniform), every layer adds about as much as it receives.
"""

import json
import math
import struct
from pathlib import Path

import numpy as np

BF16, F32 = "BF16", "F32"


def encode(values: np.ndarray, dtype: str) -> bytes:
    """Little-endian bytes; BF16 rounds to nearest, ties to even."""
    if dtype == F32:
        return values.astype("<f4").tobytes()
    bits = values.astype("<f4").view("<u4")
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded >> 16).astype("<u2").tobytes()


def draw(random: np.random.Generator, name: str, shape: list[int]) -> np.ndarray:
    """Values for one tensor, scaled by what its name says it is."""
    values = random.standard_normal(shape, dtype=np.float32)
    if "q_norm" in name or "k_norm" in name:
        return 1.5 + 0.3 * values
    if ("norm" in name.lower() or name.startswith("emb_ln")) and name.endswith("weight"):
        return 1.0 + 0.2 * values
    if len(shape) == 1:
        return 0.1 * values
    if "embed" in name:
        return 0.5 * values
    # BERT has no query and key norms: sharper attention comes from larger weights.
    gain = 3.0 if "attention.self" in name else 1.8 if "Wqkv" in name else 1.0
    return gain * values / math.sqrt(shape[-1])


def write_checkpoint(path: Path, shapes: dict[str, list[int]], dtype: str, seed: int) -> None:
    """Streams a safetensors file: header first, then each tensor as it is drawn."""
    width = 2 if dtype == BF16 else 4
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        size = math.prod(shape) * width
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    random = np.random.Generator(np.random.PCG64(seed))
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for name, shape in shapes.items():
            file.write(encode(draw(random, name, shape), dtype))


def qwen3_shapes(config: dict) -> dict[str, list[int]]:
    """Names and shapes of a Qwen3 encoder, named as the embedding checkpoints are: without a `model.` prefix."""
    hidden, wide, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query, key = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes = {"embed_tokens.weight": [config["vocab_size"], hidden]}
    for index in range(config["num_hidden_layers"]):
        layer = f"layers.{index}"
        shapes |= {
            f"{layer}.input_layernorm.weight": [hidden],
            f"{layer}.mlp.down_proj.weight": [hidden, wide],
            f"{layer}.mlp.gate_proj.weight": [wide, hidden],
            f"{layer}.mlp.up_proj.weight": [wide, hidden],
            f"{layer}.post_attention_layernorm.weight": [hidden],
            f"{layer}.self_attn.k_norm.weight": [head],
            f"{layer}.self_attn.k_proj.weight": [key, hidden],
            f"{layer}.self_attn.o_proj.weight": [hidden, query],
            f"{layer}.self_attn.q_norm.weight": [head],
            f"{layer}.self_attn.q_proj.weight": [query, hidden],
            f"{layer}.self_attn.v_proj.weight": [key, hidden],
        }
    return shapes | {"norm.weight": [hidden]}


def bert_shapes(config: dict) -> dict[str, list[int]]:
    """Names and shapes of a BERT encoder with its (unused) pooler, as the published sentence encoders have it."""
    hidden, wide = config["hidden_size"], config["intermediate_size"]

    def linear(name: str, rows: int, columns: int) -> dict[str, list[int]]:
        return {f"{name}.weight": [rows, columns], f"{name}.bias": [rows]}

    def norm(name: str) -> dict[str, list[int]]:
        return {f"{name}.LayerNorm.weight": [hidden], f"{name}.LayerNorm.bias": [hidden]}

    shapes = norm("embeddings") | {
        "embeddings.position_embeddings.weight": [config["max_position_embeddings"], hidden],
        "embeddings.token_type_embeddings.weight": [config["type_vocab_size"], hidden],
        "embeddings.word_embeddings.weight": [config["vocab_size"], hidden],
    }
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{index}"
        for part in ("query", "key", "value"):
            shapes |= linear(f"{layer}.attention.self.{part}", hidden, hidden)
        shapes |= linear(f"{layer}.attention.output.dense", hidden, hidden) | norm(f"{layer}.attention.output")
        shapes |= linear(f"{layer}.intermediate.dense", wide, hidden)
        shapes |= linear(f"{layer}.output.dense", hidden, wide) | norm(f"{layer}.output")
    return shapes | linear("pooler.dense", hidden, hidden)


def nomic_bert_shapes(config: dict) -> dict[str, list[int]]:
    """Names and shapes of a NomicBERT encoder as the published checkpoints have them."""
    hidden, wide = config["n_embd"], config["n_inner"]

    def norm(name: str) -> dict[str, list[int]]:
        return {f"{name}.weight": [hidden], f"{name}.bias": [hidden]}

    shapes = norm("emb_ln") | {
        "embeddings.token_type_embeddings.weight": [config["type_vocab_size"], hidden],
        "embeddings.word_embeddings.weight": [config["vocab_size"], hidden],
    }
    for index in range(config["n_layer"]):
        layer = f"encoder.layers.{index}"
        shapes |= {
            f"{layer}.attn.Wqkv.weight": [3 * hidden, hidden],
            f"{layer}.attn.out_proj.weight": [hidden, hidden],
            f"{layer}.mlp.fc11.weight": [wide, hidden],
            f"{layer}.mlp.fc12.weight": [wide, hidden],
            f"{layer}.mlp.fc2.weight": [hidden, wide],
        }
        shapes |= norm(f"{layer}.norm1") | norm(f"{layer}.norm2")
    return shapes
