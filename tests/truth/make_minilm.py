"""Expected MiniLM vectors: sentence-transformers on PyTorch, cross-checked with onnxruntime.

The values that are written are sentence-transformers', one text at a time (so no padding at all), with the
checkpoint's own limit of 256 tokens. Two further computations must agree, or nothing is written: the same library in
batches of 16, and onnxruntime on a graph written node by node from the same weights, fed by the `tokenizers` library
directly. Usage: make_minilm.py CHECKPOINT_FOLDER
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from common import HERE, compare, sha256, spread, texts, versions, write

sys.path.insert(0, str(HERE.parent / "bench"))
from bert_onnx import write_bert_onnx  # noqa: E402

LONGEST = 256


def with_sentence_transformers(checkpoint: Path, batch: int) -> np.ndarray:
    """Vectors by the library that the model was published with."""
    model = SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True)
    if model.max_seq_length != LONGEST:
        raise SystemExit(f"the checkpoint says {model.max_seq_length} tokens, not {LONGEST}")
    return model.encode(texts(), batch_size=batch, convert_to_numpy=True, show_progress_bar=False)


def token_ids(checkpoint: Path) -> tuple[list[list[int]], list[int]]:
    """Ids as the model reads them, and the counts before truncation; special tokens included."""
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    # The file brings its own: padding to 128 and truncation at 128.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    totals = [len(tokenizer.encode(text).ids) for text in texts()]
    tokenizer.enable_truncation(LONGEST)
    return [tokenizer.encode(text).ids for text in texts()], totals


def with_onnxruntime(checkpoint: Path, ids: list[list[int]]) -> np.ndarray:
    """Vectors by onnxruntime on our own graph, one text at a time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_bert_onnx(checkpoint, path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows = []
    for row in ids:
        feed = {"input_ids": np.array([row]), "attention_mask": np.ones((1, len(row)), dtype=np.int64)}
        rows.append(session.run(["embedding"], feed)[0][0])
    return np.stack(rows)


def main() -> None:
    checkpoint = Path(sys.argv[1])
    torch.manual_seed(0)
    single = with_sentence_transformers(checkpoint, 1)
    batched = with_sentence_transformers(checkpoint, 16)
    ids, totals = token_ids(checkpoint)
    second = with_onnxruntime(checkpoint, ids)
    agreement = {"batches_of_16": compare(single, batched), "onnxruntime": compare(single, second)}
    if min(entry["lowest_cosine"] for entry in agreement.values()) < 0.999_999:
        raise SystemExit(f"the implementations disagree: {agreement}")
    tensors = {
        "embeddings": single.astype(np.float32),
        "token_counts": np.array([len(row) for row in ids], dtype=np.int64),
        "total_counts": np.array(totals, dtype=np.int64),
    }
    write("minilm", tensors, {
        "checkpoint": {name: sha256(checkpoint / name) for name in ("model.safetensors", "tokenizer.json", "config.json")},
        "versions": versions("torch", "transformers", "sentence-transformers", "tokenizers", "onnx", "onnxruntime", "numpy"),
        "agreement": agreement,
        "spread": spread(single),
    })


if __name__ == "__main__":
    main()
