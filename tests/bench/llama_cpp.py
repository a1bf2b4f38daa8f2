"""Compares GGUF files of our converter in llama.cpp and in Embedbar: the same tokens, the same vectors.

    llama_cpp.py --embedbar PROGRAM MODEL.gguf…

For every text of `../truth/sentences.json` and every model (with its `tokenizer.json` beside it):

- llama.cpp's tokens, by what the GGUF file says, are those of the `tokenizers` library by `tokenizer.json`. A text that
  comes out otherwise is listed with its reason (`reason`); one without a reason is a failure.
- llama.cpp's vector for the library's tokens, pooled as the GGUF file says, is Embedbar's for the text, by cosine. With 8-bit
  weights llama.cpp rounds what it multiplies them with to 8 bits as well, and so do Embedbar's kernels, each in its own way, which
  leaves the two a little apart. So an 8-bit BERT is also compared without any rounding, which is the closer look at the converter:
  `--backend candle`, where Embedbar widens BERT to F32, with llama.cpp on the same weights expanded to F32 by the `gguf` package.
  For Qwen3 candle rounds too.

llama.cpp comes from the package `xllamacpp` (requirements-llama-cpp.txt): its server, in this process, on a port of its own.
What it is not: a measurement of speed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import unicodedata
import urllib.request
from pathlib import Path

import numpy as np
import xllamacpp
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize
from tokenizers import Tokenizer

SENTENCES = Path(__file__).resolve().parent.parent / "truth" / "sentences.json"
ROOM = 8192
LONGEST_WORD = 100
"""Characters from which BERT's WordPiece gives up on a word; llama.cpp has no such limit."""
Q8_0 = 7
FLOORS = {1: 0.9999, Q8_0: 0.998}
"""The lowest cosine for `general.file_type`: F16 and Q8_0."""
EXPANDED_FLOOR = 0.9999
"""The lowest cosine with the same weights in F32."""
QWEN_END = "<|endoftext|>"


class LlamaCpp:
    """One model in llama.cpp's server."""

    def __init__(self, model: Path) -> None:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(model)
        parameters.embedding = True
        parameters.warmup = False
        parameters.n_parallel = 1
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = ROOM
        parameters.cpuparams.n_threads = 1
        self.server = xllamacpp.Server(parameters)

    def post(self, path: str, body: dict) -> object:
        """The server's answer."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.server.listening_address + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def tokens(self, text: str) -> list[int]:
        """The ids of `text` with special tokens around it; those that it spells out are recognised, as the library does."""
        return self.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]

    def vector(self, ids: list[int]) -> list[float]:
        """Pooled as the file says, divided by its length."""
        return self.post("/embeddings", {"input": [ids]})[0]["embedding"][0]


class Facts:
    """What a GGUF file says."""

    def __init__(self, model: Path) -> None:
        reader = GGUFReader(model)
        fields = reader.fields
        self.kind = fields["tokenizer.ggml.model"].contents()
        self.file_type = int(fields["general.file_type"].contents())
        self.longest = int(fields["embedbar.max_tokens"].contents())
        self.tensors = len(reader.tensors)
        self.widened_by_candle = self.file_type == Q8_0 and self.kind != "gpt2"


def library_ids(model: Path, facts: Facts, texts: list[str]) -> list[list[int]]:
    """Whole ids by the `tokenizers` library, with the end token that Qwen3-Embedding needs."""
    tokenizer = Tokenizer.from_file(str(model.parent / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    rows = [tokenizer.encode(text).ids for text in texts]
    end = tokenizer.token_to_id(QWEN_END)
    if facts.kind == "gpt2":
        rows = [row if row[-1:] == [end] else [*row, end] for row in rows]
    return rows


def cut(row: list[int], facts: Facts) -> list[int]:
    """As Embedbar truncates: what ends a text stays."""
    return row if len(row) <= facts.longest else [*row[: facts.longest - 1], row[-1]]


def reason(kind: str, text: str) -> str | None:
    """Why llama.cpp splits a text otherwise, where that is known; `src-tauri/crates/convert/src/tokenizer.rs` has the list."""
    if kind == "gpt2" and unicodedata.normalize("NFC", text) != text:
        return "llama.cpp does not compose characters (NFC) before it splits"
    if kind != "bert":
        return None
    if max(map(len, text.split()), default=0) > LONGEST_WORD:
        return f"a word has more than {LONGEST_WORD} characters"
    if any(unicodedata.category(character) == "Mc" for character in text):
        return "llama.cpp strips spacing marks (Mc) like accents; BERT strips only those without a width (Mn)"
    if any("HANGUL SYLLABLE" in unicodedata.name(character, "") for character in text):
        return "llama.cpp does not decompose Hangul syllables wholly (NFD)"
    return None


def embedbar_vectors(program: Path, model: Path, texts: list[str], backend: str) -> np.ndarray:
    """Embedbar's vectors, in a home that is thrown away."""
    with tempfile.TemporaryDirectory() as home:
        command = [str(program), "--home", home, "--json", "embed", "--model", str(model), "--backend", backend, "--", *texts]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{program} failed with status {done.returncode}:\n{done.stderr.strip()}")
    return np.array([json.loads(line)["embedding"] for line in done.stdout.splitlines()])


def expand(model: Path, target: Path) -> None:
    """The same file with every tensor in F32, by the definitions of the `gguf` package."""
    reader = GGUFReader(model)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        writer.add_key_value(field.name, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Row by row."""
    return (ours * theirs).sum(axis=1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))


def expanded_cosine(model: Path, rows: list[list[int]], ours: np.ndarray) -> float:
    """The lowest cosine of llama.cpp with the model's weights in F32, and Embedbar's vectors by candle."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / model.name
        expand(model, target)
        llama = LlamaCpp(target)
        theirs = np.array([llama.vector(ids) for ids in rows])
    return float(cosines(ours, theirs).min())


def compare(program: Path, model: Path, texts: list[str]) -> dict:
    """Both comparisons of one model."""
    facts = Facts(model)
    expected = library_ids(model, facts, texts)
    llama = LlamaCpp(model)
    differ = []
    for index, (text, ids) in enumerate(zip(texts, expected)):
        found = llama.tokens(text)
        if found != ids:
            first = next((at for at, (a, b) in enumerate(zip(found, ids)) if a != b), min(len(found), len(ids)))
            differ.append({
                "text": index, "reason": reason(facts.kind, text), "begins": ascii(text[:60]), "at": first,
                "llama_cpp": found[first : first + 6], "tokenizers": ids[first : first + 6],
            })
    rows = [cut(ids, facts) for ids in expected]
    theirs = np.array([llama.vector(ids) for ids in rows])
    found = cosines(embedbar_vectors(program, model, texts, "kernels"), theirs)
    expanded = None
    if facts.widened_by_candle:
        expanded = expanded_cosine(model, rows, embedbar_vectors(program, model, texts, "candle"))
    return {
        "model": model.name, "tokenizer": facts.kind, "tensors": facts.tensors, "texts": len(texts),
        "same_tokens": len(texts) - len(differ), "differ": differ, "floor": FLOORS[facts.file_type],
        "lowest_cosine": float(found.min()), "of_text": int(found.argmin()), "mean_cosine": float(found.mean()),
        "lowest_cosine_expanded": expanded,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedbar", type=Path, required=True, metavar="PROGRAM")
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL.gguf")
    arguments = parser.parse_args()
    texts = [entry["text"] for entry in json.loads(SENTENCES.read_text(encoding="utf-8"))]
    failed = False
    for model in arguments.models:
        result = compare(arguments.embedbar.resolve(), model.resolve(), texts)
        print(json.dumps(result, indent=2))
        unexplained = [entry["text"] for entry in result["differ"] if entry["reason"] is None]
        expanded = result["lowest_cosine_expanded"]
        too_far = result["lowest_cosine"] < result["floor"] or (expanded is not None and expanded < EXPANDED_FLOOR)
        if unexplained or too_far:
            print(
                f"FAILED: {model}: cosine {result['lowest_cosine']:.6f}, with weights in F32 {expanded}, "
                f"texts split otherwise: {unexplained}"
            )
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
