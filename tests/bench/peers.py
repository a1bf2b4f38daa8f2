"""The engines that speed.py measures beside Embedbar, each as a process with the options and the output of `embedbar probe`.

    peers.py onnxruntime|llama.cpp --model FILE --tokenizer FILE --texts FILE --rounds N --batch B [--library FOLDER] [--vectors FILE]

Started by speed.py alone. A round embeds all texts, from text to the normalised vector; its processor time is that of all threads
of the process. The number of threads is OMP_NUM_THREADS. `--texts` is one text a line, or a list in JSON.

onnxruntime runs the graph of bert_onnx.py, with the `tokenizers` library. llama.cpp is the library in the package
llama-cpp-python, called through its C functions, so that no code in Python runs for each token but the filling of a batch.
"""

import argparse
import ctypes
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench import LONGEST, embed, peak_rss

LLAMA_CPP = "llama-cpp-python"
LLAMA_CPP_VERSION = "0.3.36"
ROOM = 512
"""Tokens that one text may have in llama.cpp."""


def has_tiles() -> bool:
    """Whether this processor multiplies tiles of INT8 (AMX), which Embedbar's kernels do not use."""
    try:
        return "amx_int8" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def built_llama_cpp(cache: Path, tiles: bool) -> Path:
    """The folder with llama.cpp, built once for this very processor: the wheels that there are stop at AVX2.

    With `tiles` it may use AMX where the processor has it, otherwise it has the instructions that Embedbar's kernels have.
    """
    folder = cache / f"{LLAMA_CPP}-{LLAMA_CPP_VERSION}-{platform.machine()}{'-tiles' if tiles else ''}"
    if not (folder / "complete").is_file():
        print(f"building {folder.name} for this processor; it takes some minutes …", file=sys.stderr)
        flags = ""
        if tiles:
            # GCC 12 takes the tiles' shapes for stores that nobody reads, and the program ends at its first tile.
            flags = "-fno-tree-dse -fno-dse"
        elif has_tiles():
            flags = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
        made = f"-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF -DCMAKE_C_FLAGS='{flags}' -DCMAKE_CXX_FLAGS='{flags}'"
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade", "--no-binary", LLAMA_CPP]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), f"{LLAMA_CPP}=={LLAMA_CPP_VERSION}"]
        subprocess.run(command, env=os.environ | {"CMAKE_ARGS": made}, check=True)
        (folder / "complete").touch()
    return folder


class Onnxruntime:
    """A session and a tokenizer."""

    def __init__(self, model: Path, tokenizer: Path, batch: int, threads: int) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(LONGEST)
        self.batch = batch

    def embed(self, texts: list[str]) -> np.ndarray:
        return embed(self.session, self.tokenizer, texts, self.batch)


class LlamaCpp:
    """A model and a context with room for `batch` texts."""

    def __init__(self, library: Path, model: Path, batch: int, threads: int) -> None:
        # Before this folder, where a script has the name of the package.
        sys.path.insert(0, str(library))
        from llama_cpp import llama_cpp

        self.library, self.most = llama_cpp, batch
        # It reports what it finds in a file, line by line.
        self.silent = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self.silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(str(model).encode(), llama_cpp.llama_model_default_params())
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = ROOM * batch
        parameters.n_seq_max = batch
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.embeddings = True
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        if not self.model or not self.context:
            raise SystemExit(f"llama.cpp does not load {model}")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.width = llama_cpp.llama_model_n_embd(self.model)
        self.batch = llama_cpp.llama_batch_init(ROOM * batch, 0, 1)
        self.tokens = 0

    def ids(self, text: str) -> list[int]:
        """With special tokens around them; those that the text spells out are recognised, as Embedbar does."""
        data = text.encode()
        found = (self.library.llama_token * (len(data) + 8))()
        count = self.library.llama_tokenize(self.vocabulary, data, len(data), found, len(found), True, True)
        ids = found[:count]
        return ids if count <= LONGEST else [*ids[: LONGEST - 1], ids[-1]]

    def embed(self, texts: list[str]) -> np.ndarray:
        rows = [self.ids(text) for text in texts]
        self.tokens = sum(map(len, rows))
        return np.concatenate([self.part(rows[start : start + self.most]) for start in range(0, len(rows), self.most)])

    def part(self, rows: list[list[int]]) -> np.ndarray:
        """Vectors of at most as many texts as there is room for."""
        batch, place = self.batch, 0
        for row, ids in enumerate(rows):
            for position, token in enumerate(ids):
                batch.token[place], batch.pos[place], batch.logits[place] = token, position, 1
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
                place += 1
        batch.n_tokens = place
        if self.memory:
            self.library.llama_memory_clear(self.memory, False)
        # BERT keeps nothing from one batch to the next: it has no memory.
        compute = self.library.llama_decode if self.memory else self.library.llama_encode
        if compute(self.context, batch) != 0:
            raise SystemExit("llama.cpp refused a batch")
        found = [self.library.llama_get_embeddings_seq(self.context, row) for row in range(len(rows))]
        vectors = np.stack([np.ctypeslib.as_array(vector, (self.width,)) for vector in found])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    started = time.perf_counter()
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=["onnxruntime", "llama.cpp"])
    for name in ("--model", "--tokenizer", "--texts"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--library", type=Path, help="the folder that llama.cpp was built into")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--vectors", type=Path, help="write the vectors here and measure nothing")
    arguments = parser.parse_args()
    threads = int(os.environ["OMP_NUM_THREADS"])
    if arguments.engine == "onnxruntime":
        engine = Onnxruntime(arguments.model, arguments.tokenizer, arguments.batch, threads)
    else:
        engine = LlamaCpp(arguments.library, arguments.model, arguments.batch, threads)
    written = arguments.texts.read_text(encoding="utf-8")
    texts = json.loads(written) if arguments.texts.suffix == ".json" else written.splitlines()
    if arguments.vectors:
        np.save(arguments.vectors, engine.embed(texts))
        return
    engine.embed(texts[:1])
    load_ms = (time.perf_counter() - started) * 1e3
    rounds = []
    for _ in range(arguments.rounds):
        wall, processor = time.perf_counter(), time.process_time()
        engine.embed(texts)
        rounds.append({"wall_ms": (time.perf_counter() - wall) * 1e3, "cpu_ms": (time.process_time() - processor) * 1e3})
    tokens = getattr(engine, "tokens", None) if rounds else None
    print(json.dumps({"load_ms": load_ms, "tokens": tokens, "rounds": rounds, "rss_peak_bytes": peak_rss()}), flush=True)


if __name__ == "__main__":
    main()
