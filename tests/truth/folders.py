"""Checkpoint folders as older and as the newest libraries write them, around the same weights and tokenizer."""

import json
import shutil
import tempfile
from pathlib import Path

from sentence_transformers import SentenceTransformer

POOLING_MODES = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
MODULES_OLD = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]

def write_json(path: Path, value: object) -> None:
    """JSON as the libraries write it: two spaces, a newline at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_old_side_files(
    folder: Path, config: dict, tokenizer_config: dict, sentence_transformers: dict, pooling: str, width: int
) -> None:
    """Everything but weights and tokenizer; `pooling` is one of `POOLING_MODES`."""
    pooling_config = {"word_embedding_dimension": width}
    pooling_config |= {f"pooling_mode_{mode}": mode == pooling for mode in POOLING_MODES}
    write_json(folder / "config.json", config)
    write_json(folder / "tokenizer_config.json", tokenizer_config)
    write_json(folder / "modules.json", MODULES_OLD)
    write_json(folder / "1_Pooling" / "config.json", pooling_config | {"include_prompt": True})
    write_json(folder / "config_sentence_transformers.json", sentence_transformers)


def save_as_newest(old: Path, new: Path) -> None:
    """Loads the old folder and saves it with the installed libraries; weights and tokenizer stay as they were."""
    shutil.rmtree(new, ignore_errors=True)
    with tempfile.TemporaryDirectory() as saved:
        SentenceTransformer(str(old), device="cpu", local_files_only=True).save(saved, create_model_card=False)
        for path in sorted(Path(saved).rglob("*.json")):
            if path.name in ("tokenizer.json", "model.safetensors.index.json"):
                continue
            target = new / path.relative_to(saved)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path.read_text(encoding="utf-8").rstrip() + "\n", encoding="utf-8")
    for name in ("model.safetensors", "tokenizer.json"):
        shutil.copyfile(old / name, new / name)
