"""What the scripts of this folder share: paths, the texts, and how a result is written with its provenance."""

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent
SENTENCES = HERE / "sentences.json"


def texts() -> list[str]:
    """The texts of `sentences.json`, in order."""
    return [entry["text"] for entry in json.loads(SENTENCES.read_text(encoding="utf-8"))]


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """The versions of Python and of the packages that made the values."""
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"python": platform.python_version()} | found


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows divided by their L2 norm, in float64."""
    wide = vectors.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def compare(left: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """The lowest cosine between equal rows and the largest difference of an element."""
    cosines = (unit(left) * unit(right)).sum(axis=1)
    return {"lowest_cosine": float(cosines.min()), "largest_difference": float(np.abs(left - right).max())}


def spread(vectors: np.ndarray) -> dict[str, float]:
    """How far the rows lie from each other: a degenerate model gives a mean near 1."""
    rows = unit(vectors)
    cosines = (rows @ rows.T)[np.triu_indices(len(rows), k=1)]
    return {"mean_cosine": float(cosines.mean()), "highest_cosine": float(cosines.max())}


def write(name: str, tensors: dict[str, np.ndarray], provenance: dict) -> None:
    """Writes NAME.safetensors and, beside it, NAME.json that says how it came about."""
    path = HERE / f"{name}.safetensors"
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, path)
    provenance = {"file": path.name, "sha256": sha256(path), "sentences_sha256": sha256(SENTENCES)} | provenance
    text = json.dumps(provenance, indent=2, ensure_ascii=False)
    (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)
