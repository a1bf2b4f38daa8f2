"""Compares a converted GGUF file with its checkpoint, using the `gguf`, `safetensors` and `numpy` packages only.

    python compare.py CHECKPOINT_FOLDER MODEL.gguf

Every tensor is read back through `gguf`; Q8_0 must be byte for byte what `gguf.quants` makes of the source's numbers, F16 what
numpy makes of them, F32 the numbers themselves. Exits 1 and names the tensor where it is not.
"""

import glob
import hashlib
import json
import os
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, quants

BERT = {
    "token_embd": "embeddings.word_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
QWEN3 = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def load(path):
    """All tensors of a safetensors file as float32, by name without a prefix (numpy knows no bfloat16)."""
    tensors = {}
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start = file.tell()
        for name, info in header.items():
            if name == "__metadata__" or info["dtype"] not in ("F32", "F16", "BF16"):
                continue
            first, last = info["data_offsets"]
            file.seek(start + first)
            data = file.read(last - first)
            if info["dtype"] == "BF16":
                numbers = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
            else:
                numbers = np.frombuffer(data, {"F32": "<f4", "F16": "<f2"}[info["dtype"]]).astype(np.float32)
            short = name.removeprefix("bert.").removeprefix("roberta.").removeprefix("model.")
            short = short.replace(".gamma", ".weight").replace(".beta", ".bias")
            tensors[short] = numbers.reshape(info["shape"])
    return tensors


def source_name(name, architecture):
    table, layers = (BERT, "encoder.layer") if architecture == "bert" else (QWEN3, "layers")
    stem, kind = name.rsplit(".", 1)
    if stem.startswith("blk."):
        _, layer, part = stem.split(".")
        return f"{layers}.{layer}.{table[part]}.{kind}"
    return f"{table[stem]}.{kind}"


def main(folder, model):
    reader = GGUFReader(model)
    field = lambda key: reader.fields[key].contents()
    architecture = field("general.architecture")
    source = {}
    files = sorted(glob.glob(os.path.join(folder, "*.safetensors")))
    for path in files:
        source.update(load(path))
    if len(files) == 1:
        with open(files[0], "rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == field("embedbar.source_sha256"), "source_sha256"
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    if config["model_type"] == "xlm-roberta":
        # The rows up to the padding token's are no positions.
        positions = "embeddings.position_embeddings.weight"
        source[positions] = source[positions][config.get("pad_token_id", 1) + 1 :]
        assert field("bert.context_length") == len(source[positions]), "context_length"
    counts, worst = {}, 0.0
    for tensor in reader.tensors:
        numbers = source.pop(source_name(tensor.name, architecture))
        kind = tensor.tensor_type
        wanted = numbers.astype(np.float32) if kind == GGMLQuantizationType.F32 else quants.quantize(numbers, kind)
        if tensor.data.tobytes() != wanted.tobytes():
            sys.exit(f"{tensor.name}: the bytes are not those of gguf.quants")
        back = quants.dequantize(tensor.data, kind).reshape(numbers.shape)
        assert list(tensor.shape) == list(reversed(numbers.shape)), tensor.name
        scale = np.abs(numbers).max() or 1.0
        worst = max(worst, float(np.abs(back - numbers).max() / scale))
        counts[kind.name] = counts.get(kind.name, 0) + 1
    print(json.dumps({"architecture": architecture, "tensors": counts, "largest_relative_error": worst,
                      "left_out": sorted(source)}))
    for key in reader.fields:
        if not key.startswith("GGUF."):
            value = field(key)
            print(f"  {key} = {f'{len(value)} of {value[:4]}…' if isinstance(value, list) else value}")


if __name__ == "__main__":
    main(*sys.argv[1:])
