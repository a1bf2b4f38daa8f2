"""Measures Embedbar beside onnxruntime on the same machine, model and texts, in one run.

`cargo xtask bench` builds the release, makes the environment (requirements.txt) and starts this. Every engine runs in a
process of its own, which the system holds to as many cores as it is to have threads: Embedbar's kernels start one for each core
that they may use. The engines take turns, so that a busy machine is busy for all of them. A vector's time includes
tokenising, pooling and normalising, on both sides. CPU time is the process's, all its threads together: it is the
figure to trust where other work shares the machine. Prints a Markdown table; `--json` keeps every figure.

What it is not: a test. It asserts nothing about speed; it fails only if the engines do not compute the same vectors.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bert_onnx import quantize_int8, write_bert_onnx
from checkpoints import minilm

HERE = Path(__file__).resolve().parent
SENTENCES = HERE.parent / "truth" / "sentences.json"
BUNDLED = "all-MiniLM-L6-v2-int8.gguf"
BULK = 512
WARM_UP = 3
LONGEST = 256


@dataclass
class Inputs:
    """Files that the engines read."""

    embedbar: Path
    bundled: Path
    checkpoint: Path
    work: Path


@dataclass
class Task:
    """What is measured: a file of texts, embedded once while loading (its first) and then `rounds` times over."""

    name: str
    texts: Path
    rounds: int
    batch: int


class Engine:
    """A name and a command line that embeds a file of texts and prints one JSON object."""

    def __init__(self, name: str, command: list[str], own_batches: bool) -> None:
        self.name, self.command, self.own_batches = name, command, own_batches

    def run(self, task: Task, threads: int) -> dict:
        """One process: `load_ms`, `rounds` of `wall_ms` and `cpu_ms`, `rss_peak_bytes`, and `process_ms` from outside."""
        # Embedbar gets all texts and forms its batches itself.
        batch = BULK if self.own_batches else task.batch
        arguments = ["--texts", str(task.texts), "--rounds", str(task.rounds), "--batch", str(batch), "--json"]
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        with held_to(threads):
            started = time.perf_counter()
            done = subprocess.run(
                self.command + arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False
            )
            elapsed = (time.perf_counter() - started) * 1000.0
        if done.returncode != 0:
            raise SystemExit(f"{self.name} failed with status {done.returncode}:\n{done.stderr.strip()}")
        return json.loads(done.stdout.strip().splitlines()[-1]) | {"process_ms": elapsed}


@contextmanager
def held_to(count: int, first: int = 0) -> Iterator[None]:
    """Processes that are started meanwhile run on `count` cores alone, counted from the one with number `first`."""
    if not hasattr(os, "sched_setaffinity"):
        # macOS binds no process to a core.
        yield
        return
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    os.sched_setaffinity(0, {cores[(first + place) % len(cores)] for place in range(count)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def onnxruntime_probe(arguments: argparse.Namespace) -> None:
    """The other side of `Engine.run` for onnxruntime, with the options and the output of `embedbar probe`."""
    started = time.perf_counter()
    import onnxruntime
    from tokenizers import Tokenizer

    threads = int(os.environ["OMP_NUM_THREADS"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(arguments.model), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    texts = arguments.texts.read_text(encoding="utf-8").splitlines()
    first = embed(session, tokenizer, texts[:1], 1)[0]
    load_ms = (time.perf_counter() - started) * 1000.0
    rounds = []
    for _ in range(arguments.rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        embed(session, tokenizer, texts, arguments.batch)
        rounds.append({"wall_ms": (time.perf_counter() - wall) * 1e3, "cpu_ms": (time.process_time() - cpu) * 1e3})
    result = {"load_ms": load_ms, "rounds": rounds, "rss_peak_bytes": peak_rss(), "first": first.tolist()}
    print(json.dumps(result))


def peak_rss() -> int:
    """This process's highest resident size, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux it starts from the parent's size at the time of the fork.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def embed(session, tokenizer, texts: list[str], batch: int) -> np.ndarray:
    """Vectors in the order of the texts; batches are made of texts of similar length and padded to the longest."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)] if len(texts) > 1 else [tokenizer.encode(texts[0]).ids]
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    vectors: list[np.ndarray | None] = [None] * len(ids)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        width = len(ids[part[-1]])
        rows = np.zeros((len(part), width), dtype=np.int64)
        mask = np.zeros_like(rows)
        for row, index in enumerate(part):
            rows[row, : len(ids[index])] = ids[index]
            mask[row, : len(ids[index])] = 1
        for index, vector in zip(part, session.run(["embedding"], {"input_ids": rows, "attention_mask": mask})[0]):
            vectors[index] = vector
    return np.stack(vectors)


def engines(inputs: Inputs) -> list[Engine]:
    """Embedbar with the bundled model and with the checkpoint, onnxruntime in F32 and in its own dynamic INT8."""
    exact, quantised = inputs.work / "f32.onnx", inputs.work / "int8.onnx"
    write_bert_onnx(inputs.checkpoint, exact)
    quantize_int8(exact, quantised)
    probe = [str(inputs.embedbar), "probe", "--model"]
    other = [sys.executable, str(HERE / "bench.py"), "onnxruntime", "--tokenizer", str(inputs.checkpoint / "tokenizer.json"), "--model"]
    return [
        Engine("Embedbar INT8", [*probe, str(inputs.bundled / BUNDLED)], True),
        Engine("onnxruntime INT8", [*other, str(quantised)], False),
        Engine("Embedbar F32", [*probe, str(inputs.checkpoint)], True),
        Engine("onnxruntime F32", [*other, str(exact)], False),
    ]


def make_tasks(inputs: Inputs, arguments: argparse.Namespace) -> list[Task]:
    """A query of 8 and one of 64 tokens, and 512 texts of 3 to 256 tokens; special tokens included."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(inputs.checkpoint / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    count = lambda text: len(tokenizer.encode(text).ids)  # noqa: E731
    texts = [" ".join(entry["text"].split()) for entry in json.loads(SENTENCES.read_text(encoding="utf-8"))]
    texts = [text for text in texts if count(text) <= LONGEST]
    words = max((text for text in texts if text.isascii()), key=count).split()

    def of_length(tokens: int) -> str:
        return next(text for size in range(1, len(words)) if count(text := " ".join(words[:size])) >= tokens)

    def task(name: str, lines: list[str], rounds: int, batch: int) -> Task:
        path = inputs.work / f"{name.replace(' ', '-')}.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return Task(name, path, rounds, batch)

    short, middle = of_length(8), of_length(64)
    bulk = [texts[index % len(texts)] for index in range(BULK)]
    print(f"{count(short)} and {count(middle)} tokens; {BULK} texts of {sum(map(count, bulk)) / BULK:.1f} tokens on average")
    queries = arguments.queries + WARM_UP
    return [
        # No round: both sides embed the first text while they load.
        task("first vector", [short], 0, 1),
        task("query 8", [short], queries, 1),
        task("query 64", [middle], queries, 1),
        task("bulk", bulk, 1, arguments.batch),
    ]


def measure(all_engines: list[Engine], tasks: list[Task], threads: list[int], turns: int) -> list[dict]:
    """Every engine in turn, `turns` times over; one entry for each engine, task and thread count."""
    runs: dict[tuple[str, str, int], list[dict]] = {}
    for turn in range(turns):
        for task in tasks:
            for count in threads:
                for engine in all_engines:
                    runs.setdefault((engine.name, task.name, count), []).append(engine.run(task, count))
        print(f"turn {turn + 1} of {turns} done, load average {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return [summarise(*key, found) for key, found in runs.items()]


def summarise(engine: str, task: str, threads: int, found: list[dict]) -> dict:
    """Medians and minima over all turns, without the warm-up of each."""
    rounds = [entry for run in found for entry in (run["rounds"][WARM_UP:] or run["rounds"])]
    entry = {
        "engine": engine,
        "task": task,
        "threads": threads,
        "load_ms": statistics.median(run["load_ms"] for run in found),
        "process_ms": spread([run["process_ms"] for run in found]),
        "rss_peak_bytes": max(run["rss_peak_bytes"] for run in found),
    }
    if rounds:
        entry |= {key: spread([one[key] for one in rounds]) for key in ("wall_ms", "cpu_ms")}
    return entry


def spread(values: list[float]) -> dict[str, float]:
    """Median and minimum."""
    return {"median": statistics.median(values), "min": min(values)}


def whole_program(inputs: Inputs, text: str, turns: int) -> dict:
    """`embedbar embed` as a user runs it, from nothing (owner, worker, model) to the vector on standard output."""
    spent, vector = [], None
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as home:
            command = [str(inputs.embedbar), "embed", "--json", "--home", home, "--model", str(inputs.bundled / BUNDLED), text]
            started = time.perf_counter()
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            spent.append((time.perf_counter() - started) * 1000.0)
        vector = json.loads(done.stdout.strip().splitlines()[-1])["embedding"]
    return {"wall_ms": spread(spent), "vector": vector}


def table(results: list[dict], names: list[str], threads: list[int], whole: dict) -> str:
    """Markdown: a row for each figure, a column for each engine, and the two ratios."""
    entries = {(entry["engine"], entry["task"], entry["threads"]): entry for entry in results}
    rows = [
        ("8 tokens, CPU ms (median)", "query 8", lambda entry: entry["cpu_ms"]["median"], 2, False),
        ("8 tokens, wall ms (median)", "query 8", lambda entry: entry["wall_ms"]["median"], 2, False),
        ("8 tokens, wall ms (least)", "query 8", lambda entry: entry["wall_ms"]["min"], 2, False),
        ("64 tokens, CPU ms (median)", "query 64", lambda entry: entry["cpu_ms"]["median"], 2, False),
        ("64 tokens, wall ms (median)", "query 64", lambda entry: entry["wall_ms"]["median"], 2, False),
        ("64 tokens, wall ms (least)", "query 64", lambda entry: entry["wall_ms"]["min"], 2, False),
        (f"{BULK} texts, a CPU second (best)", "bulk", lambda entry: BULK * 1000.0 / entry["cpu_ms"]["min"], 1, True),
        (f"{BULK} texts, a second (best)", "bulk", lambda entry: BULK * 1000.0 / entry["wall_ms"]["min"], 1, True),
        ("start to first vector, ms (median)", "first vector", lambda entry: entry["process_ms"]["median"], 0, False),
        ("peak RSS after one query, MB", "first vector", lambda entry: entry["rss_peak_bytes"] / 1e6, 0, False),
        ("peak RSS after the bulk, MB", "bulk", lambda entry: entry["rss_peak_bytes"] / 1e6, 0, False),
    ]
    lines = ["| figure | threads | " + " | ".join(names) + " | INT8: ours / theirs | F32: ours / theirs |", "|---|---|" + "---|" * (len(names) + 2)]
    for label, task, figure, digits, _ in rows:
        for count in threads:
            values = [figure(entries[name, task, count]) for name in names]
            cells = [f"{value:.{digits}f}" for value in values] + [f"{values[0] / values[1]:.2f}", f"{values[2] / values[3]:.2f}"]
            lines.append(f"| {label} | {count} | " + " | ".join(cells) + " |")
    spent = whole["wall_ms"]
    lines.append(f"\n`embedbar embed` from nothing: {spent['median']:.0f} ms (median), {spent['min']:.0f} ms (least).")
    lines.append("A text's rate is better when higher; everything else when lower. onnxruntime's start and RSS include Python's.")
    return "\n".join(lines)


def check_same(inputs: Inputs, all_engines: list[Engine], tasks: list[Task], vector: list[float]) -> float:
    """Cosine between Embedbar's vector and onnxruntime's F32 vector for the short query."""
    theirs = np.array(all_engines[-1].run(tasks[0], 1)["first"])
    ours = np.array(vector)
    cosine = float(ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs))
    if cosine < 0.99:
        raise SystemExit(f"the engines do not compute the same: cosine {cosine:.6f} with {inputs.bundled}")
    return cosine


def arguments_of(line: list[str]) -> argparse.Namespace:
    """The command line; the `onnxruntime` form is internal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    if line[:1] == ["onnxruntime"]:
        for name in ("--model", "--tokenizer", "--texts"):
            parser.add_argument(name, type=Path, required=True)
        parser.add_argument("--rounds", type=int, required=True)
        parser.add_argument("--batch", type=int, required=True)
        parser.add_argument("--json", action="store_true")
        return parser.parse_args(line[1:])
    parser.add_argument("--embedbar", type=Path, required=True, help="the release binary")
    parser.add_argument("--bundled", type=Path, required=True, help=f"folder with {BUNDLED}")
    parser.add_argument("--checkpoint", type=Path, help="MiniLM's safetensors folder, instead of the cache's")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "embedbar", help="where the checkpoint is kept")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every figure here")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--queries", type=int, default=60, help="measured queries in each turn")
    parser.add_argument("--batch", type=int, default=8, help="texts in a batch of the bulk")
    return parser.parse_args(line)


def main() -> None:
    if sys.argv[1:2] == ["onnxruntime"]:
        onnxruntime_probe(arguments_of(sys.argv[1:]))
        return
    arguments = arguments_of(sys.argv[1:])
    checkpoint = arguments.checkpoint or minilm(arguments.cache)
    with tempfile.TemporaryDirectory() as work:
        inputs = Inputs(arguments.embedbar.resolve(), arguments.bundled.resolve(), checkpoint, Path(work))
        all_engines, tasks = engines(inputs), make_tasks(inputs, arguments)
        whole = whole_program(inputs, tasks[0].texts.read_text(encoding="utf-8").strip(), arguments.turns)
        cosine = check_same(inputs, all_engines, tasks, whole.pop("vector"))
        results = measure(all_engines, tasks, arguments.threads, arguments.turns)
    print(f"the same vector: cosine {cosine:.6f}\n")
    print(table(results, [engine.name for engine in all_engines], arguments.threads, whole))
    if arguments.json:
        machine = {"machine": platform.machine(), "system": platform.platform(), "cores": os.cpu_count()}
        arguments.json.write_text(json.dumps({"machine": machine, "whole_program": whole, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
