"""Makes a small random BERT with first-token pooling, in both folder forms, and its expected vectors.

It has what MiniLM has not: `cls` pooling, a query prompt, a limit of 64 tokens, biases and norms that are far from
0 and 1. The vectors are transformers' `BertModel`'s in float32, cross-checked with sentence-transformers and with
onnxruntime. Usage: make_bert.py
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertModel

from common import HERE, compare, sha256, spread, texts, versions, write
from folders import save_as_newest, write_json, write_old_side_files
from random_checkpoint import F32, bert_shapes, write_checkpoint

sys.path.insert(0, str(HERE.parent / "bench"))
from bert_onnx import write_bert_onnx  # noqa: E402

LONGEST = 64
QUERY_PROMPT = "Represent this sentence for searching relevant passages: "
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

# As transformers 4.30 wrote it.
CONFIG = {
    "_name_or_path": "bert-small",
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 32,
    "id2label": {"0": "LABEL_0"},
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "label2id": {"LABEL_0": 0},
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 128,
    "model_type": "bert",
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "transformers_version": "4.30.0",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 1000,
}
TOKENIZER_CONFIG = {
    "clean_up_tokenization_spaces": True,
    "cls_token": "[CLS]",
    "do_basic_tokenize": True,
    "do_lower_case": True,
    "mask_token": "[MASK]",
    "model_max_length": LONGEST,
    "never_split": None,
    "pad_token": "[PAD]",
    "sep_token": "[SEP]",
    "strip_accents": None,
    "tokenize_chinese_chars": True,
    "tokenizer_class": "BertTokenizer",
    "unk_token": "[UNK]",
}
SENTENCE_TRANSFORMERS_OLD = {
    "__version__": {"sentence_transformers": "2.4.0", "transformers": "4.30.0", "pytorch": "2.0.1"},
    "prompts": {"query": QUERY_PROMPT},
    "default_prompt_name": None,
}


def train() -> Tokenizer:
    """A lower-casing WordPiece of `vocab_size` pieces from every second text."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The fixed alphabet leaves most scripts unknown, which is what an English vocabulary does to them.
    trainer = trainers.WordPieceTrainer(
        vocab_size=CONFIG["vocab_size"], special_tokens=SPECIAL, show_progress=False, limit_alphabet=200, min_frequency=1
    )
    tokenizer.train_from_iterator(texts()[1::2], trainer)
    if tokenizer.get_vocab_size() != CONFIG["vocab_size"]:
        raise SystemExit(f"{tokenizer.get_vocab_size()} pieces")
    specials = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=specials
    )
    return tokenizer


def write_old(folder: Path) -> None:
    """Everything but weights and tokenizer."""
    write_old_side_files(folder, CONFIG, TOKENIZER_CONFIG, SENTENCE_TRANSFORMERS_OLD, "cls_token", CONFIG["hidden_size"])
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": LONGEST, "do_lower_case": True})


@torch.no_grad()
def with_transformers(folder: Path, rows: list[list[int]]) -> np.ndarray:
    """First token's last hidden state, divided by its length; one text at a time."""
    model = BertModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    first = [model(input_ids=torch.tensor([row])).last_hidden_state[0, 0] for row in rows]
    return torch.nn.functional.normalize(torch.stack(first), dim=-1).numpy()


def with_onnxruntime(folder: Path, rows: list[list[int]]) -> np.ndarray:
    """The same by onnxruntime on our own graph."""
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "model.onnx"
        write_bert_onnx(folder, path, pooling="cls")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = [{"input_ids": np.array([row]), "attention_mask": np.ones((1, len(row)), dtype=np.int64)} for row in rows]
    return np.stack([session.run(["embedding"], feed)[0][0] for feed in feeds])


def expected(folder: Path) -> None:
    """Computes and writes bert-small.safetensors."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    totals = [len(tokenizer.encode(text).ids) for text in texts()]
    tokenizer.enable_truncation(LONGEST)
    rows = [tokenizer.encode(text).ids for text in texts()]
    queries = [tokenizer.encode(QUERY_PROMPT + text).ids for text in texts()]
    vectors = {"native": with_transformers(folder, rows), "native_query": with_transformers(folder, queries)}
    library = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    checks = {
        "sentence_transformers": compare(vectors["native"], library.encode(texts(), batch_size=8)),
        "sentence_transformers_query": compare(vectors["native_query"], library.encode(texts(), prompt_name="query")),
        "onnxruntime": compare(vectors["native"], with_onnxruntime(folder, rows)),
    }
    if min(check["lowest_cosine"] for check in checks.values()) < 0.999_999:
        raise SystemExit(f"the implementations disagree: {checks}")
    if spread(vectors["native"])["mean_cosine"] > 0.9:
        raise SystemExit(f"the texts lie too near each other: {spread(vectors['native'])}")
    tensors = {name: values.astype(np.float32) for name, values in vectors.items()} | {
        "token_counts": np.array([len(row) for row in rows], dtype=np.int64),
        "total_counts": np.array(totals, dtype=np.int64),
    }
    write("bert-small", tensors, {
        "checkpoint": {name: sha256(folder / name) for name in ("model.safetensors", "tokenizer.json", "config.json")},
        "versions": versions("torch", "transformers", "sentence-transformers", "tokenizers", "onnx", "onnxruntime", "numpy"),
        "agreement": checks,
        "spread": {name: spread(values) for name, values in vectors.items()},
    })


def main() -> None:
    old, new = HERE / "bert-small-old", HERE / "bert-small"
    shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory() as work:
        complete = Path(work)
        train().save(str(complete / "tokenizer.json"))
        write_checkpoint(complete / "model.safetensors", bert_shapes(CONFIG), F32, 20_190_814)
        write_old(complete)
        write_old(old)
        save_as_newest(complete, new)
    expected(new)


if __name__ == "__main__":
    main()
