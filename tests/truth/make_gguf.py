"""Makes GGUF files of the small checkpoints as llama.cpp's converters write them, with the tokenizer in the file.

The vectors are those that the checkpoints have already (`bert-small.safetensors` and so on); nothing is computed here.
Names of tensors, ids of special tokens, merges and the file itself come from llama.cpp's own `gguf` package; how the
vocabulary is written follows its converters (`conversion/bert.py`, `conversion/base.py` of August 2026):

- `bert`: words get U+2581 in front, `##` is taken off, control tokens stay, whatever rows are left are unused;
- `gpt2`: tokens and merges as they are; rows without a token are called `[PAD…]` and unused;
- `t5`: pieces with their scores; the rows of positions that belong to no token are cut off. `xlm-roberta-small-spm`
  is the vocabulary alone, as the converter makes it where it reads SentencePiece's own file, which has no `<mask>`,
  and as older ones made it, without a word on what is added.

Usage: make_gguf.py                  the files in gguf/, which are committed
       make_gguf.py TOKENIZER OUT    the vocabulary alone of any tokenizer.json of these kinds
"""

import base64
import json
import sys
from pathlib import Path

import gguf
import numpy as np

HERE = Path(__file__).resolve().parent
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = (int(kind) for kind in list(gguf.TokenType)[:5])


def rows_of(tokenizer: dict, rows: int) -> tuple[list[str], list[int], list[float]]:
    """Texts, types and scores of every row of the table of embeddings."""
    vocabulary = tokenizer["model"]["vocab"]
    if isinstance(vocabulary, dict):
        vocabulary = sorted(((text, id) for text, id in vocabulary.items()), key=lambda item: item[1])
        numbered = {id: (text, 0.0) for text, id in vocabulary}
    else:
        numbered = {id: (text, score) for id, (text, score) in enumerate(vocabulary)}
    types = {id: NORMAL for id in numbered}
    for added in tokenizer["added_tokens"]:
        _, score = numbered.get(added["id"], ("", 0.0))
        numbered[added["id"]] = (added["content"], score)
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    rows = max(rows, max(numbered) + 1)
    texts = [numbered[id][0] if id in numbered else f"[PAD{id}]" for id in range(rows)]
    scores = [numbered[id][1] if id in numbered else -10_000.0 for id in range(rows)]
    return texts, [types.get(id, UNUSED) for id in range(rows)], scores


def phantom(text: str, kind: int) -> str:
    """A piece of BERT's as llama.cpp has it."""
    if kind == CONTROL:
        return text
    return text[2:] if text.startswith("##") else "\u2581" + text


def add_tokenizer(writer: gguf.GGUFWriter, folder: Path, tokenizer: dict, rows: int, spm: bool = False) -> None:
    """All keys below `tokenizer.ggml.`."""
    kind = tokenizer["model"]["type"]
    texts, types, scores = rows_of(tokenizer, rows)
    if kind == "WordPiece":
        writer.add_tokenizer_model("bert")
        writer.add_tokenizer_pre("jina-v2-en")
        texts = [phantom(text, type) for text, type in zip(texts, types)]
    elif kind == "BPE":
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
    else:
        writer.add_tokenizer_model("t5")
        writer.add_tokenizer_pre("default")
        unknown = tokenizer["model"]["unk_id"]
        types[unknown] = UNKNOWN
        if spm:
            mask = next(added["id"] for added in tokenizer["added_tokens"] if added["content"] == "<mask>")
            texts[mask], types[mask], scores[mask] = f"[PAD{mask}]", UNUSED, -10_000.0
    writer.add_token_list(texts)
    if kind == "Unigram":
        writer.add_token_scores(scores)
    writer.add_token_types(types)
    if kind == "Unigram":
        writer.add_add_space_prefix(True)
        writer.add_remove_extra_whitespaces(spm)
        writer.add_precompiled_charsmap(base64.b64decode(tokenizer["normalizer"]["precompiled_charsmap"]))
    special = gguf.SpecialVocab(folder, load_merges=kind == "BPE", n_vocab=len(texts))
    if spm:
        special.add_special_token = {}
    special.add_to_gguf(writer, quiet=True)


def write_vocabulary(source: Path, target: Path, rows: int = 0, spm: bool = False) -> None:
    """A file without tensors."""
    writer = gguf.GGUFWriter(target, "vocabulary")
    add_tokenizer(writer, source.parent, json.loads(source.read_text(encoding="utf-8")), rows, spm)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    print(target.name, target.stat().st_size)


def write(name: str, target: Path, matrices: gguf.GGMLQuantizationType) -> None:
    """One whole file with its matrices in the type `matrices`."""
    folder = HERE / name
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    arch = gguf.MODEL_ARCH.QWEN3 if config["model_type"] == "qwen3" else gguf.MODEL_ARCH.BERT
    layers = config["num_hidden_layers"]
    skipped = config["pad_token_id"] + 1 if config["model_type"] == "xlm-roberta" else 0
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_block_count(layers)
    writer.add_context_length(config["max_position_embeddings"] - skipped)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    if arch == gguf.MODEL_ARCH.QWEN3:
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
        writer.add_pooling_type(gguf.PoolingType.LAST)
    else:
        writer.add_layer_norm_eps(config["layer_norm_eps"])
        writer.add_causal_attention(False)
        writer.add_token_type_count(config["type_vocab_size"])
        mode = json.loads((folder / "1_Pooling" / "config.json").read_text())["pooling_mode"]
        writer.add_pooling_type({"cls": gguf.PoolingType.CLS, "mean": gguf.PoolingType.MEAN}[mode])
    add_tokenizer(writer, folder, tokenizer, config["vocab_size"])
    names = gguf.get_tensor_name_map(arch, layers)
    for tensor, values in sorted(widened(folder / "model.safetensors").items()):
        plain = tensor.removeprefix("model.")
        if plain.startswith("pooler."):
            continue
        found = names.get_name(
            f"model.{plain}" if arch == gguf.MODEL_ARCH.QWEN3 else plain, try_suffixes=(".weight", ".bias")
        )
        if "position_embeddings" in tensor:
            values = values[skipped:]
        exact = values.ndim == 1 or "position" in tensor or "token_type" in tensor
        kind = gguf.GGMLQuantizationType.F32 if exact else matrices
        writer.add_tensor(found, gguf.quants.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(target.name, target.stat().st_size)


def widened(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file in F32. numpy has no BF16, so the library does not read it."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(body[first:last], "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(body[first:last], {"F32": "<f4", "F16": "<f2"}[entry["dtype"]]).astype("<f4")
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def main() -> None:
    if len(sys.argv) == 3:
        write_vocabulary(Path(sys.argv[1]), Path(sys.argv[2]))
        return
    (HERE / "gguf").mkdir(exist_ok=True)
    kinds = gguf.GGMLQuantizationType
    write("bert-small", HERE / "gguf" / "bert-small.gguf", kinds.F16)
    write("xlm-roberta-small", HERE / "gguf" / "xlm-roberta-small.gguf", kinds.F16)
    write("qwen3-small", HERE / "gguf" / "qwen3-small.gguf", kinds.F16)
    write_vocabulary(HERE / "xlm-roberta-small" / "tokenizer.json", HERE / "gguf" / "xlm-roberta-small-spm.gguf", 2048, True)


if __name__ == "__main__":
    main()
