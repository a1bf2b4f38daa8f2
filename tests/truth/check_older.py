"""Computes the `native` and `papr` vectors of qwen3-small with an older transformers, from the older configuration.

Shows that what qwen3-small-old/ holds is what that library reads, and that both give the same vectors. It needs
`transformers==4.51.3` (README.md says how) and nothing else of this folder's environment but torch and safetensors.
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent


@torch.no_grad()
def main() -> None:
    stored = load_file(HERE / "qwen3-small.safetensors")
    entries = json.loads((HERE / "sentences.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as work:
        for name in ("model.safetensors", "tokenizer.json"):
            shutil.copy(HERE / "qwen3-small" / name, work)
        shutil.copytree(HERE / "qwen3-small-old", work, dirs_exist_ok=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(work)
        model = transformers.Qwen3Model.from_pretrained(work, torch_dtype=torch.float32, attn_implementation="eager")
        written = model.config.to_dict()
    model.eval()
    lowest, lowest_papr = 1.0, 1.0
    # The SDK's converter sets this; up to 4.57 it has no effect on Qwen3's mask.
    model.config.is_causal = False
    for row, index in enumerate(stored["indices"].tolist()):
        text = entries[index]["text"]
        one = tokenizer(text, return_tensors="pt")
        vector = model(**one).last_hidden_state[0, -1]
        lowest = min(lowest, torch.cosine_similarity(vector, stored["native"][row], dim=0).item())
        one = tokenizer(text, return_tensors="pt", padding="max_length", truncation=True, max_length=32)
        hidden = torch.stack(model(**one, output_hidden_states=True).hidden_states[-4:]).mean(dim=0)[0]
        pooled = (hidden * one["attention_mask"][0].unsqueeze(-1)).sum(dim=0)
        lowest_papr = min(lowest_papr, torch.cosine_similarity(pooled, stored["papr"][row], dim=0).item())
    print(f"transformers {transformers.__version__}: lowest cosine native {lowest:.9f}, papr {lowest_papr:.9f}")
    print(f"rope_theta {written['rope_theta']}, torch_dtype {written['torch_dtype']}, padding {tokenizer.padding_side}")
    if min(lowest, lowest_papr) < 0.999_99:
        raise SystemExit("the older library disagrees")


if __name__ == "__main__":
    main()
