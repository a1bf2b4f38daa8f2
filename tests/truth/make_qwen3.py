"""Makes a small random Qwen3 embedding checkpoint and its expected vectors; `--full` makes one of the real size.

    make_qwen3.py                       qwen3-small/, qwen3-small-old/ and qwen3-small.safetensors, all committed
    make_qwen3.py --full OUT [FOLDER…]  the shape of Qwen3-Embedding-0.6B with a tokenizer of the real size, trained
                                        on the text below the folders (Python's own library by default)

The weights are BF16, as published; every expected value is computed from them in float32 by transformers'
`Qwen3Model`. `native` is cross-checked with sentence-transformers, which pools and normalises by its own modules.
"""

import argparse
import json
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoTokenizer, Qwen3Model

from common import HERE, compare, sha256, spread, texts, versions, write
from folders import save_as_newest, write_old_side_files
from qwen3_tokenizer import REAL_MERGED, lines_of, train
from random_checkpoint import BF16, qwen3_shapes, write_checkpoint

SMALL_MERGED = 2_000
PAPR_LENGTH = 32
QUERY_PROMPT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"

# As transformers 4.51 wrote it: rope_theta at the top, torch_dtype. Values that a reader might take for granted
# (theta, head width) differ from every default.
SMALL_CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": SMALL_MERGED,
    "eos_token_id": SMALL_MERGED,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 128,
    "max_position_embeddings": 32768,
    "max_window_layers": 4,
    "model_type": "qwen3",
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 100000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.3",
    "use_cache": True,
    "use_sliding_window": False,
    # More rows than the tokenizer has tokens, as padded vocabularies have.
    "vocab_size": 2048,
}
FULL_CHANGES = {
    "bos_token_id": REAL_MERGED,
    "eos_token_id": REAL_MERGED,
    "head_dim": 128,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "max_window_layers": 28,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rope_theta": 1000000,
    "vocab_size": 151669,
}
TOKENIZER_CONFIG = {
    "add_bos_token": False,
    "add_prefix_space": False,
    "bos_token": None,
    "clean_up_tokenization_spaces": False,
    "eos_token": "<|im_end|>",
    "errors": "replace",
    "model_max_length": 131072,
    "pad_token": "<|endoftext|>",
    "split_special_tokens": False,
    "tokenizer_class": "Qwen2Tokenizer",
    "unk_token": None,
}
SENTENCE_TRANSFORMERS_OLD = {
    "__version__": {"sentence_transformers": "2.7.0", "transformers": "4.51.2", "pytorch": "2.6.0"},
    "prompts": {"query": QUERY_PROMPT, "document": ""},
    "default_prompt_name": None,
    "similarity_fn_name": "cosine",
}


def write_old(folder: Path, config: dict) -> None:
    """Everything but weights and tokenizer, as the libraries of spring 2025 wrote it."""
    width = config["hidden_size"]
    write_old_side_files(folder, config, TOKENIZER_CONFIG, SENTENCE_TRANSFORMERS_OLD, "lasttoken", width)


def chosen() -> list[int]:
    """Which texts: every third, and the long ones at the end."""
    count = len(texts())
    return sorted({*range(0, count, 3), *range(count - 9, count)})


def padded(rows: list[list[int]], pad: int, length: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and mask."""
    width = length or max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


@torch.no_grad()
def native(model: Qwen3Model, rows: list[list[int]], pad: int, batch: int) -> np.ndarray:
    """Last token's hidden state after the final norm, divided by its length; right padding within a batch."""
    vectors = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        ids, mask = padded(part, pad)
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        last = hidden[torch.arange(len(part)), mask.sum(dim=1) - 1]
        vectors.append(torch.nn.functional.normalize(last, dim=-1).numpy())
    return np.concatenate(vectors)


@torch.no_grad()
def papr(model: Qwen3Model, rows: list[list[int]], pad: int) -> np.ndarray:
    """The Papr SDK's converter with `--layers 4`: 32 places, mean of the last four hidden states (only the last of
    them has passed the final norm), mean over the tokens, clamp to the range of FP16, L2."""
    ids, mask = padded(rows, pad, PAPR_LENGTH)
    states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    hidden = torch.stack(states[-4:]).mean(dim=0)
    wide = mask.unsqueeze(-1).float()
    pooled = (hidden * wide).sum(dim=1) / wide.sum(dim=1).clamp(min=1e-9)
    pooled = pooled.clamp(-65504.0, 65504.0)
    return (pooled / pooled.norm(dim=-1, keepdim=True)).numpy()


@torch.no_grad()
def papr_2025_10_16(model: Qwen3Model, rows: list[list[int]], pad: int) -> np.ndarray:
    """The SDK's earlier build: last layer, no mask, the sum over 32 places divided by 32, not normalised."""
    ids, _ = padded(rows, pad, PAPR_LENGTH)
    return model(input_ids=ids).last_hidden_state.mean(dim=1).numpy()


def load(folder: Path, **changes: object) -> Qwen3Model:
    """The model in float32, its configuration changed as a caller would change it."""
    config = AutoConfig.from_pretrained(folder)
    for name, value in changes.items():
        setattr(config, name, value)
    return Qwen3Model.from_pretrained(folder, config=config, dtype=torch.float32, attn_implementation="eager").eval()


def cut_to(tokenizer: Tokenizer, all_texts: list[str], length: int) -> list[list[int]]:
    """Ids cut to `length` with the end token kept, as the library truncates."""
    tokenizer.enable_truncation(length)
    rows = [tokenizer.encode(text).ids for text in all_texts]
    tokenizer.no_truncation()
    return rows


def expected(folder: Path) -> None:
    """Computes and writes qwen3-small.safetensors."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = tokenizer.token_to_id("<|endoftext|>")
    wanted = [texts()[index] for index in chosen()]
    rows = [tokenizer.encode(text).ids for text in wanted]
    queries = [tokenizer.encode(QUERY_PROMPT + text).ids for text in wanted]
    short = cut_to(tokenizer, wanted, PAPR_LENGTH)
    assert all(row[-1] == end for row in rows + queries + short)

    model = load(folder)
    alone = native(model, rows, end, 1)
    vectors = {
        "native": alone,
        "native_query": native(model, queries, end, 1),
        "papr": papr(model, short, end),
        "papr_2025_10_16": papr_2025_10_16(model, short, end),
        "papr_bidirectional": papr(load(folder, is_causal=False), short, end),
    }
    in_float32 = {"dtype": torch.float32}
    library = SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs=in_float32)
    by_transformers = AutoTokenizer.from_pretrained(folder)
    checks = {
        "batches_of_7_right_padded": compare(alone, native(model, rows, end, 7)),
        "sentence_transformers": compare(alone, library.encode(wanted, batch_size=5)),
        "sentence_transformers_query": compare(vectors["native_query"], library.encode(wanted, prompt_name="query")),
    }
    other_theta = load(folder, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    wrong = {
        "rope_theta_1e6": compare(alone, native(other_theta, rows, end, 1)),
        "not_causal": compare(alone, native(load(folder, is_causal=False), rows, end, 1)),
        "no_end_token": compare(alone, native(model, [row[:-1] for row in rows], end, 1)),
        "left_padded_by_one_without_mask": compare(alone, native(model, [[end, *row] for row in rows], end, 1)),
    }
    if min(check["lowest_cosine"] for check in checks.values()) < 0.999_999:
        raise SystemExit(f"the implementations disagree: {json.dumps(checks, indent=1)}")
    if max(check["lowest_cosine"] for check in wrong.values()) > 0.999:
        raise SystemExit(f"a mistake would not be seen: {json.dumps(wrong, indent=1)}")
    if spread(alone)["mean_cosine"] > 0.9:
        raise SystemExit(f"the texts lie too near each other: {spread(alone)}")
    counts = {
        "indices": chosen(),
        "token_counts": [len(row) for row in rows],
        "query_token_counts": [len(row) for row in queries],
        "papr_token_counts": [len(row) for row in short],
    }
    tensors = {name: values.astype(np.float32) for name, values in vectors.items()}
    write("qwen3-small", tensors | {name: np.array(values, dtype=np.int64) for name, values in counts.items()}, {
        "checkpoint": {name: sha256(folder / name) for name in ("model.safetensors", "tokenizer.json", "config.json")},
        "versions": versions("torch", "transformers", "sentence-transformers", "tokenizers", "numpy"),
        "agreement": checks,
        "mistakes_that_must_show": wrong,
        "spread": {name: spread(values) for name, values in vectors.items()},
        "auto_tokenizer_gives_the_same_ids": [by_transformers(text)["input_ids"] for text in wanted] == rows,
    })


def make_small() -> None:
    """The committed checkpoint, in both forms, and its expected values."""
    old, new = HERE / "qwen3-small-old", HERE / "qwen3-small"
    shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory() as work:
        complete = Path(work)
        # Every second text, so that the others hold pieces that no merge knows.
        train(texts()[1::2], SMALL_MERGED, 1).save(str(complete / "tokenizer.json"))
        write_checkpoint(complete / "model.safetensors", qwen3_shapes(SMALL_CONFIG), BF16, 20_250_605)
        write_old(complete, SMALL_CONFIG)
        write_old(old, SMALL_CONFIG)
        save_as_newest(complete, new)
    expected(new)


def make_full(output: Path, folders: list[Path]) -> None:
    """A checkpoint of the real shape and a tokenizer of the real size, in the older form."""
    config = SMALL_CONFIG | FULL_CHANGES
    write_old(output, config)
    if not (output / "tokenizer.json").exists():
        train(lines_of(folders, 400 << 20), REAL_MERGED, 2).save(str(output / "tokenizer.json"))
    write_checkpoint(output / "model.safetensors", qwen3_shapes(config), BF16, 20_250_605)
    print(f"{output}: {(output / 'model.safetensors').stat().st_size / 1e6:.0f} MB of weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", type=Path, metavar="OUT")
    parser.add_argument("folders", type=Path, nargs="*", default=[Path(sysconfig.get_paths()["stdlib"])])
    arguments = parser.parse_args()
    if arguments.full:
        make_full(arguments.full, arguments.folders)
    else:
        make_small()


if __name__ == "__main__":
    sys.exit(main())
