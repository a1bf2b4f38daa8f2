"""Makes a small random NomicBERT, in both folder forms, and its expected vectors.

It has what BERT has not: rotary positions with a base that no reader would guess, which turns slower for texts that are longer
than the training's (dynamic NTK), a gated feed-forward layer, queries, keys and values in one matrix, no biases, and more
embedding rows than tokens. The weights have the names of the published checkpoints; transformers splits and renames them as it
reads; its tokenizer is `bert-small`'s. The older configuration is the authors' own, with the names of GPT-2; the newer one is transformers'. The vectors are
transformers' `NomicBertModel`'s in float32, one text at a time, cross-checked with sentence-transformers and with the
definition in numpy and float64 below. Usage: make_nomic_bert.py
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import NomicBertConfig, NomicBertModel

from common import HERE, compare, sha256, spread, texts, versions, write
from folders import save_as_newest, write_json, write_old_side_files
from make_bert import TOKENIZER_CONFIG
from random_checkpoint import F32, nomic_bert_shapes, write_checkpoint

LONGEST, TRAINED, FACTOR, BASE, EPSILON = 384, 128, 3.0, 730.0, 1e-6
QUERY_PROMPT, DOCUMENT_PROMPT = "search_query: ", "search_document: "

# As the authors' own code reads it.
CONFIG = {
    "activation_function": "swiglu",
    "architectures": ["NomicBertModel"],
    "attn_pdrop": 0.0,
    "auto_map": {"AutoModel": "modeling_hf_nomic_bert.NomicBertModel"},
    "bos_token_id": None,
    "causal": False,
    "embd_pdrop": 0.0,
    "eos_token_id": None,
    "initializer_range": 0.02,
    "layer_norm_epsilon": EPSILON,
    "max_trained_positions": TRAINED,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "model_type": "nomic_bert",
    "n_embd": 64,
    "n_head": 2,
    "n_inner": 96,
    "n_layer": 3,
    "n_positions": 512,
    "pad_vocab_size_multiple": 64,
    "parallel_block": False,
    "parallel_block_tied_norm": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "reorder_and_upcast_attn": False,
    "rotary_emb_base": BASE,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": FACTOR,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "torch_dtype": "float32",
    "transformers_version": "4.37.2",
    "type_vocab_size": 2,
    "use_cache": True,
    "use_rms_norm": False,
    "vocab_size": 1024,
}
NEWER = NomicBertConfig(
    vocab_size=CONFIG["vocab_size"],
    hidden_size=CONFIG["n_embd"],
    num_hidden_layers=CONFIG["n_layer"],
    num_attention_heads=CONFIG["n_head"],
    intermediate_size=CONFIG["n_inner"],
    max_position_embeddings=TRAINED,
    layer_norm_eps=EPSILON,
    rope_parameters={"rope_type": "dynamic", "rope_theta": BASE, "factor": FACTOR},
    architectures=["NomicBertModel"],
)
SENTENCE_TRANSFORMERS_OLD = {
    "__version__": {"sentence_transformers": "2.4.0", "transformers": "4.37.2", "pytorch": "2.1.0"},
    "prompts": {"query": QUERY_PROMPT, "document": DOCUMENT_PROMPT},
    "default_prompt_name": None,
}


def write_old(folder: Path, config: dict) -> None:
    """Everything but weights and tokenizer."""
    tokenizer_config = TOKENIZER_CONFIG | {"model_max_length": LONGEST}
    write_old_side_files(folder, config, tokenizer_config, SENTENCE_TRANSFORMERS_OLD, "mean_tokens", CONFIG["n_embd"])
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": LONGEST, "do_lower_case": False})


@torch.no_grad()
def with_transformers(folder: Path, rows: list[list[int]], scaled: bool = True) -> np.ndarray:
    """Mean of the last hidden states, divided by its length; one text at a time."""
    model = NomicBertModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    rotary = model.rotary_emb
    original, vectors = rotary.original_inv_freq.clone(), []
    for row in rows:
        # transformers keeps the frequencies of the longest text so far, so that a text's vector would depend on those before.
        rotary.max_seq_len_cached = TRAINED if scaled else 1 << 30
        rotary.register_buffer("inv_freq", original.clone(), persistent=False)
        vectors.append(model(input_ids=torch.tensor([row])).last_hidden_state[0].mean(dim=0))
    return torch.nn.functional.normalize(torch.stack(vectors), dim=-1).numpy()


def norm(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    """LayerNorm over the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def by_definition(weights: dict[str, np.ndarray], row: list[int], swapped: bool = False) -> np.ndarray:
    """One text's vector in float64. `swapped` gates with the wrong one of the two inner matrices."""
    heads, length = CONFIG["n_head"], len(row)
    width = CONFIG["n_embd"] // heads
    base = BASE
    if length > TRAINED:
        base *= (FACTOR * length / TRAINED - (FACTOR - 1)) ** (width / (width - 2))
    # A pair of numbers is one complex number, and a position turns it.
    turn = np.exp(1j * np.outer(np.arange(length), base ** (-np.arange(0, width, 2) / width)))[:, None, :]

    def turned(x: np.ndarray) -> np.ndarray:
        pairs = (x[..., : width // 2] + 1j * x[..., width // 2 :]) * turn
        return np.concatenate([pairs.real, pairs.imag], axis=-1)

    x = weights["embeddings.word_embeddings.weight"][row] + weights["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, weights, "emb_ln")
    for index in range(CONFIG["n_layer"]):
        layer = f"encoder.layers.{index}"
        queries, keys, values = np.split(x @ weights[f"{layer}.attn.Wqkv.weight"].T, 3, axis=-1)
        queries, keys, values = (part.reshape(length, heads, width) for part in (queries, keys, values))
        scores = np.einsum("qhd,khd->hqk", turned(queries), turned(keys)) / np.sqrt(width)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        attended = np.einsum("hqk,khd->qhd", scores, values).reshape(length, -1)
        x = norm(x + attended @ weights[f"{layer}.attn.out_proj.weight"].T, weights, f"{layer}.norm1")
        up, gate = (x @ weights[f"{layer}.mlp.{name}.weight"].T for name in ("fc11", "fc12"))
        if swapped:
            up, gate = gate, up
        inner = up * gate / (1 + np.exp(-gate))
        x = norm(x + inner @ weights[f"{layer}.mlp.fc2.weight"].T, weights, f"{layer}.norm2")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


def expected(folder: Path) -> None:
    """Computes and writes nomic-bert-small.safetensors."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    totals = [len(tokenizer.encode(text).ids) for text in texts()]
    tokenizer.enable_truncation(LONGEST)
    rows = [tokenizer.encode(text).ids for text in texts()]
    queries = [tokenizer.encode(QUERY_PROMPT + text).ids for text in texts()]
    vectors = {"native": with_transformers(folder, rows), "native_query": with_transformers(folder, queries)}
    weights = {name: values.astype(np.float64) for name, values in load_file(folder / "model.safetensors").items()}
    # sentence-transformers reads texts in batches, and frequencies follow from the longest text of all before.
    short = [index for index, row in enumerate(rows) if len(row) <= TRAINED]
    long = [index for index in range(len(rows)) if index not in short]
    library = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    by_library = library.encode([texts()[index] for index in short], batch_size=8)
    checks = {
        "definition": compare(vectors["native"], np.stack([by_definition(weights, row) for row in rows])),
        "definition_query": compare(vectors["native_query"], np.stack([by_definition(weights, row) for row in queries])),
        "sentence_transformers_up_to_trained": compare(vectors["native"][short], by_library),
    }
    unscaled = with_transformers(folder, [rows[index] for index in long], scaled=False)
    wrong = {
        "gate_and_up_swapped": compare(vectors["native"], np.stack([by_definition(weights, row, True) for row in rows])),
        "long_texts_not_scaled": compare(vectors["native"][long], unscaled),
    }
    if min(check["lowest_cosine"] for check in checks.values()) < 0.999_999:
        raise SystemExit(f"the implementations disagree: {json.dumps(checks, indent=1)}")
    if max(check["lowest_cosine"] for check in wrong.values()) > 0.999:
        raise SystemExit(f"a mistake would not be seen: {json.dumps(wrong, indent=1)}")
    if spread(vectors["native"])["mean_cosine"] > 0.9:
        raise SystemExit(f"the texts lie too near each other: {spread(vectors['native'])}")
    tensors = {name: values.astype(np.float32) for name, values in vectors.items()} | {
        "token_counts": np.array([len(row) for row in rows], dtype=np.int64),
        "total_counts": np.array(totals, dtype=np.int64),
    }
    write("nomic-bert-small", tensors, {
        "checkpoint": {name: sha256(folder / name) for name in ("model.safetensors", "tokenizer.json", "config.json")},
        "versions": versions("torch", "transformers", "sentence-transformers", "tokenizers", "numpy"),
        "agreement": checks,
        "mistakes_that_must_show": wrong,
        "texts_beyond_the_trained_length": len(long),
        "spread": {name: spread(values) for name, values in vectors.items()},
    })


def main() -> None:
    old, new = HERE / "nomic-bert-small-old", HERE / "nomic-bert-small"
    shutil.rmtree(old, ignore_errors=True)
    write_old(old, CONFIG)
    with tempfile.TemporaryDirectory() as work:
        complete = Path(work)
        # The trainer breaks ties at random, so that training it again would give another one.
        shutil.copyfile(HERE / "bert-small" / "tokenizer.json", complete / "tokenizer.json")
        write_checkpoint(complete / "model.safetensors", nomic_bert_shapes(CONFIG), F32, 20_240_201)
        write_old(complete, NEWER.to_dict())
        save_as_newest(complete, new)
    expected(new)


if __name__ == "__main__":
    main()
