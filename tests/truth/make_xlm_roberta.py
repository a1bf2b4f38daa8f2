"""Makes a small random XLM-RoBERTa with mean pooling, in both folder forms, and its expected vectors.

It has what BERT has not: positions that start behind the padding token's id, one token type, a Unigram tokenizer with
SentencePiece's own normalisation (nmt_nfkc), `<s>` and `</s>` around a text, more embedding rows than tokens. Texts are read
up to the last position, so that a table that is off by a row shows. The tokenizer is trained by sentencepiece and its
pieces are renumbered as XLM-R does; the vectors are transformers' `XLMRobertaModel`'s in float32, cross-checked with
sentence-transformers. Usage: make_xlm_roberta.py
"""

import io
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from sentence_transformers import SentenceTransformer
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import XLMRobertaModel

from common import HERE, compare, sha256, spread, texts, versions, write
from folders import save_as_newest, write_json, write_old_side_files
from random_checkpoint import F32, bert_shapes, write_checkpoint

PAD = 1
LONGEST = 128
PIECES = 2_000
QUERY_PROMPT, DOCUMENT_PROMPT = "query: ", "passage: "

# As transformers 4.30 wrote it.
CONFIG = {
    "_name_or_path": "xlm-roberta-small",
    "architectures": ["XLMRobertaModel"],
    "attention_probs_dropout_prob": 0.1,
    "bos_token_id": 0,
    "classifier_dropout": None,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-05,
    # The padding token's row and the one before it are no positions.
    "max_position_embeddings": LONGEST + PAD + 1,
    "model_type": "xlm-roberta",
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "output_past": True,
    "pad_token_id": PAD,
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "transformers_version": "4.30.0",
    "type_vocab_size": 1,
    "use_cache": True,
    "vocab_size": 2048,
}
TOKENIZER_CONFIG = {
    "bos_token": "<s>",
    "clean_up_tokenization_spaces": True,
    "cls_token": "<s>",
    "eos_token": "</s>",
    "mask_token": {
        "__type": "AddedToken",
        "content": "<mask>",
        "lstrip": True,
        "normalized": True,
        "rstrip": False,
        "single_word": False,
    },
    "model_max_length": 512,
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "tokenizer_class": "XLMRobertaTokenizer",
    "unk_token": "<unk>",
}
SENTENCE_TRANSFORMERS_OLD = {
    "__version__": {"sentence_transformers": "2.4.0", "transformers": "4.30.0", "pytorch": "2.0.1"},
    "prompts": {"query": QUERY_PROMPT, "document": DOCUMENT_PROMPT},
    "default_prompt_name": None,
}


def train() -> tuple[sentencepiece.SentencePieceProcessor, Tokenizer]:
    """SentencePiece's Unigram model of every second text, and the same in the form and numbering that XLM-R has."""
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts()[1::2]),
        model_writer=trained,
        model_type="unigram",
        vocab_size=PIECES,
        # Rare characters stay unknown.
        character_coverage=0.995,
        max_sentence_length=1 << 16,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    model = sentencepiece_model_pb2.ModelProto.FromString(trained.getvalue())
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(piece.piece, piece.score) for piece in model.pieces[3:]] + [("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in ("<s>", "<pad>", "</s>", "<unk>")])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    if tokenizer.get_vocab_size() > CONFIG["vocab_size"]:
        raise SystemExit(f"{tokenizer.get_vocab_size()} pieces")
    return processor, tokenizer


def write_old(folder: Path) -> None:
    """Everything but weights and tokenizer."""
    width = CONFIG["hidden_size"]
    write_old_side_files(folder, CONFIG, TOKENIZER_CONFIG, SENTENCE_TRANSFORMERS_OLD, "mean_tokens", width)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": LONGEST, "do_lower_case": False})


@torch.no_grad()
def with_transformers(model: XLMRobertaModel, rows: list[list[int]], batch: int = 1, **more: object) -> np.ndarray:
    """Mean of the last hidden states of the tokens, divided by its length."""
    vectors = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        width = max(map(len, part))
        ids = torch.tensor([row + [PAD] * (width - len(row)) for row in part])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in part])
        hidden = model(input_ids=ids, attention_mask=mask, **more).last_hidden_state
        wide = mask.unsqueeze(-1).float()
        mean = (hidden * wide).sum(dim=1) / wide.sum(dim=1)
        vectors.append(torch.nn.functional.normalize(mean, dim=-1).numpy())
    return np.concatenate(vectors)


def with_positions_from(model: XLMRobertaModel, rows: list[list[int]], first: int) -> np.ndarray:
    """What a reader makes of it that starts to count positions at `first`."""
    each = [with_transformers(model, [row], position_ids=torch.arange(first, first + len(row))[None]) for row in rows]
    return np.concatenate(each)


def renumbered(processor: sentencepiece.SentencePieceProcessor, text: str) -> list[int]:
    """sentencepiece's own ids in XLM-R's numbering, special tokens included."""
    return [0, *(3 if piece == 0 else piece + 1 for piece in processor.encode(text)), 2]


def expected(folder: Path, processor: sentencepiece.SentencePieceProcessor) -> None:
    """Computes and writes xlm-roberta-small.safetensors."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    whole = [tokenizer.encode(text).ids for text in texts()]
    by_sentencepiece = [renumbered(processor, text) for text in texts()]
    tokenizer.enable_truncation(LONGEST)
    rows = [tokenizer.encode(text).ids for text in texts()]
    queries = [tokenizer.encode(QUERY_PROMPT + text).ids for text in texts()]
    model = XLMRobertaModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    vectors = {"native": with_transformers(model, rows), "native_query": with_transformers(model, queries)}
    library = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    checks = {
        "batches_of_7_right_padded": compare(vectors["native"], with_transformers(model, rows, 7)),
        "sentence_transformers": compare(vectors["native"], library.encode(texts(), batch_size=8)),
        "sentence_transformers_query": compare(vectors["native_query"], library.encode(texts(), prompt_name="query")),
    }
    wrong = {
        "positions_from_0": compare(vectors["native"], with_positions_from(model, rows, 0)),
        "positions_from_1": compare(vectors["native"], with_positions_from(model, rows, PAD)),
    }
    if min(check["lowest_cosine"] for check in checks.values()) < 0.999_999:
        raise SystemExit(f"the implementations disagree: {json.dumps(checks, indent=1)}")
    if max(check["lowest_cosine"] for check in wrong.values()) > 0.999:
        raise SystemExit(f"a mistake would not be seen: {json.dumps(wrong, indent=1)}")
    if spread(vectors["native"])["mean_cosine"] > 0.9:
        raise SystemExit(f"the texts lie too near each other: {spread(vectors['native'])}")
    tensors = {name: values.astype(np.float32) for name, values in vectors.items()} | {
        "token_counts": np.array([len(row) for row in rows], dtype=np.int64),
        "total_counts": np.array([len(row) for row in whole], dtype=np.int64),
    }
    write("xlm-roberta-small", tensors, {
        "checkpoint": {name: sha256(folder / name) for name in ("model.safetensors", "tokenizer.json", "config.json")},
        "versions": versions(
            "torch", "transformers", "sentence-transformers", "sentencepiece", "tokenizers", "protobuf", "numpy"
        ),
        "agreement": checks,
        "mistakes_that_must_show": wrong,
        "spread": {name: spread(values) for name, values in vectors.items()},
        "texts_that_sentencepiece_splits_otherwise": [
            index for index, (left, right) in enumerate(zip(whole, by_sentencepiece)) if left != right
        ],
    })


def main() -> None:
    old, new = HERE / "xlm-roberta-small-old", HERE / "xlm-roberta-small"
    shutil.rmtree(old, ignore_errors=True)
    processor, tokenizer = train()
    with tempfile.TemporaryDirectory() as work:
        complete = Path(work)
        tokenizer.save(str(complete / "tokenizer.json"))
        write_checkpoint(complete / "model.safetensors", bert_shapes(CONFIG), F32, 20_191_105)
        write_old(complete)
        write_old(old)
        save_as_newest(complete, new)
    expected(new, processor)


if __name__ == "__main__":
    main()
