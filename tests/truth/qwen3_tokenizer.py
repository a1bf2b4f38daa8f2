"""Trains a byte-level BPE with the structure of the Qwen3-Embedding tokenizer, of any size up to the real one.

What is the same: NFC, the pre-tokeniser's expression, byte-level alphabet, the 26 added tokens in their order and
behind the merges, and a post-processor that appends `<|endoftext|>` to every text. What differs: the merges come
from the corpus at hand, because the real file is not.
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

REAL_MERGED = 151_643
"""Bytes and merges of the real vocabulary; the added tokens follow, so `<|endoftext|>` is 151643."""

PRE_TOKENISER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
]
ORDINARY = [
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
]

TEXT_SUFFIXES = {".py", ".rs", ".md", ".rst", ".txt", ".toml", ".json", ".js", ".ts", ".c", ".h", ".html", ".po"}


def lines_of(folders: list[Path], limit: int) -> Iterable[str]:
    """Text of the files below `folders`, in a fixed order, up to `limit` bytes in all."""
    left = limit
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix not in TEXT_SUFFIXES or not path.is_file() or path.stat().st_size > 1 << 20:
                continue
            text = path.read_text(encoding="utf-8", errors="ignore")
            left -= len(text)
            if left < 0:
                return
            yield text


def train(corpus: Iterable[str], merged: int, rarest: int) -> Tokenizer:
    """A tokenizer of exactly `merged` bytes and merges plus the added tokens; pairs below `rarest` are not merged."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PRE_TOKENISER), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=merged, min_frequency=rarest, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(corpus, trainer)
    if tokenizer.get_vocab_size() != merged:
        raise SystemExit(f"the corpus gives {tokenizer.get_vocab_size()} tokens, not {merged}: name more folders")
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in ORDINARY])
    end = tokenizer.token_to_id("<|endoftext|>")
    assert end == merged, end
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        processors.TemplateProcessing(
            single="$A <|endoftext|>", pair="$A <|endoftext|> $B <|endoftext|>", special_tokens=[("<|endoftext|>", end)]
        ),
    ])
    return tokenizer
