"""Measures what an embedding costs: Embedbar's kernels, Embedbar on candle, onnxruntime and llama.cpp, in one run and in turn.

`cargo xtask bench -- speed` builds the release, the generator of checkpoints and the kernels' example `products`, makes the
environment (requirements-speed.txt) and starts this. Every engine runs in a process of its own (peers.py, `embedbar probe`), held
to one core by the system and told to use one thread, or two in the second table; the core changes with every turn. A text's time
includes tokenising, pooling and normalising. What counts is the processor time of the process: other work on the machine hardly
disturbs it. All engines get the same texts, in bulk sorted by length, and each its best batch.

- MiniLM has its real weights: the bundled GGUF for Embedbar and llama.cpp, for onnxruntime its own dynamic INT8 and the F32 graph.
- Qwen3-Embedding's shapes have random weights, converted by `embedbar convert`; Embedbar and llama.cpp read the same GGUF.
- The floor is what one core of this machine cannot go below: the bytes of the blocks' weights at the rate at which numpy reads
  memory, or their multiplications at the best rate of any INT8 product of Embedbar's kernels (`products`), whichever takes longer,
  both measured here. A processor with tiles for INT8 (AMX) could go lower; attention and all else are not in it.
- llama.cpp is built here for this processor. Where that has AMX there are two: one with the instructions that Embedbar's kernels
  have, beside which the goals stand, and one with AMX. onnxruntime uses what it finds.
- Quality is the cosine with, and the overlap of the ten nearest of each text with, what sentence-transformers computes in F32
  for the texts of ../truth. llama.cpp splits some of them otherwise, for the reasons that llama_cpp.py lists.

Prints Markdown; `--svg` draws the chart of the README. It asserts nothing about speed: it fails only where an engine does, or reads
other tokens.
"""

import argparse
import json
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from bench import BUNDLED, SENTENCES, held_to, spread
from bert_onnx import quantize_int8, read_safetensors, write_bert_onnx
from checkpoints import converted, minilm, random_qwen3
from peers import built_llama_cpp, has_tiles
from server import WORDS

HERE = Path(__file__).resolve().parent
TRUTH = SENTENCES.with_name("minilm.safetensors")
BITS = {"INT8": 8.5, "4-bit": 4.5}
"""For each weight, scales included."""
BATCHES = (1, 4, 8, 32)
BULK_SEED = 60
STARTS = 7
WARM_UP = 2
QWEN_END = "<|endoftext|>"


@dataclass
class Engine:
    """A name, and a command that embeds a file of texts and prints one line of JSON."""

    name: str
    command: list[str]

    @property
    def own(self) -> bool:
        return self.name.startswith("Embedbar")

    def run(self, texts: Path, rounds: int, batch: int, threads: int, core: int = 0) -> dict:
        """One process on so many cores, from number `core` on: what it printed, and `start_ms`, from its start to that line."""
        arguments = ["--texts", str(texts), "--rounds", str(rounds), "--batch", str(batch)]
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        with held_to(threads, core), tempfile.TemporaryFile("w+") as errors:
            started = time.perf_counter()
            process = subprocess.Popen(self.command + arguments, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
            line = process.stdout.readline()
            elapsed = (time.perf_counter() - started) * 1e3
            rest = process.communicate()[0]
            if process.returncode != 0:
                errors.seek(0)
                raise SystemExit(f"{self.name} failed with status {process.returncode}:\n{errors.read().strip()}")
        return json.loads(line + rest) | {"start_ms": elapsed}


@dataclass
class Model:
    """What some engines compute."""

    name: str
    weights: int
    """Of its blocks."""
    bits: float
    tokenizer: Path
    engines: list[Engine]


@dataclass
class Work:
    """A row of the goals: texts of one model, and what is to be reached against which peer."""

    name: str
    model: Model
    tokens: int
    """Of all texts together."""
    texts: Path
    count: int
    rounds: int
    batches: tuple[int, ...]
    peer: str
    goal: float
    """The share of the peer's time that is allowed; in bulk how many times its rate is due."""

    @property
    def bulk(self) -> bool:
        return self.count > 1


@dataclass
class Figure:
    """What an engine took for a text of a work, at its best batch: milliseconds and bytes."""

    work: Work
    engine: str
    batch: int
    threads: int
    cpu_ms: dict[str, float]
    wall_ms: dict[str, float]
    rss: int


@dataclass
class Machine:
    """What one core can do, measured in this run."""

    bytes_per_second: float
    multiplications_per_second: float
    described: str

    def floor_ms(self, work: Work) -> float:
        """For one text. In bulk the weights are read once for many texts, which leaves the multiplications."""
        model = work.model
        computed = model.weights * work.tokens / work.count / self.multiplications_per_second
        read = 0.0 if work.bulk else model.weights * model.bits / 8 / self.bytes_per_second
        return max(computed, read) * 1e3


@dataclass
class Inputs:
    """Files that are read, and how much is to be measured."""

    embedbar: Path
    generator: Path
    products: Path
    bundled: Path
    cache: Path
    work: Path
    quick: bool
    large: bool
    checkpoint: Path = field(init=False)

    def __post_init__(self) -> None:
        self.checkpoint = minilm(self.cache)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ------------------------------------------------------------------------------------------------------ the models


def block_weights(configuration: dict) -> int:
    """Numbers in the matrices of all blocks."""
    hidden, heads = configuration["hidden_size"], configuration["num_attention_heads"]
    width = configuration.get("head_dim", hidden // heads)
    keys = configuration.get("num_key_value_heads", heads)
    # BERT has two matrices after the attention, Qwen3 a third for the gate.
    wide = 3 if "num_key_value_heads" in configuration else 2
    attention = hidden * width * (2 * heads + 2 * keys)
    return configuration["num_hidden_layers"] * (attention + wide * hidden * configuration["intermediate_size"])


def models(inputs: Inputs) -> dict[str, Model]:
    """MiniLM, and the shapes of Qwen3-Embedding in both precisions, by name."""
    llama = {"llama.cpp": built_llama_cpp(inputs.cache, False)}
    if has_tiles():
        llama["llama.cpp with AMX"] = built_llama_cpp(inputs.cache, True)
    # As the app has it: packed matrices and compiled tokenizers are kept.
    probe = [str(inputs.embedbar), "probe", "--packed", str(inputs.work / "packed"), "--model"]

    def peer(kind: str, model: Path, tokenizer: Path, *more: str) -> list[str]:
        return [sys.executable, str(HERE / "peers.py"), kind, "--model", str(model), "--tokenizer", str(tokenizer), *more]

    def llamas(model: Path, stored: str, tokenizer: Path) -> list[Engine]:
        return [
            Engine(name.replace("llama.cpp", f"llama.cpp {stored}"), peer("llama.cpp", model, tokenizer, "--library", str(folder)))
            for name, folder in llama.items()
        ]

    bundled, tokenizer = inputs.bundled / BUNDLED, inputs.checkpoint / "tokenizer.json"
    exact, quantised = inputs.work / "f32.onnx", inputs.work / "int8.onnx"
    write_bert_onnx(inputs.checkpoint, exact)
    quantize_int8(exact, quantised)
    configuration = json.loads((inputs.checkpoint / "config.json").read_text())
    small = [
        Engine("Embedbar INT8", [*probe, str(bundled)]),
        Engine("Embedbar INT8, candle", [*probe, str(bundled), "--backend", "candle"]),
        Engine("onnxruntime INT8", peer("onnxruntime", quantised, tokenizer)),
        *llamas(bundled, "Q8_0", tokenizer),
        Engine("Embedbar F32", [*probe, str(inputs.checkpoint)]),
        Engine("onnxruntime F32", peer("onnxruntime", exact, tokenizer)),
    ]
    found = {"MiniLM": Model("MiniLM", block_weights(configuration), BITS["INT8"], tokenizer, small)}
    for shape in ["0.6b", "4b"] if inputs.large else ["0.6b"]:
        folder = inputs.cache / "bench-convert"
        source = random_qwen3(inputs.generator, folder, shape)
        configuration = json.loads((source / "config.json").read_text())
        for precision, theirs in [("INT8", "Q8_0"), ("4-bit", "Q4_K")]:
            option = precision.lower().replace("-", "")
            file = converted(inputs.embedbar, source, folder / "models" / f"{shape}-{option}" / "model.gguf", f"--{option}")
            name = f"Qwen3 {shape.upper()} shape, {precision}"
            engines = [
                Engine(f"Embedbar {precision}", [*probe, str(file)]),
                Engine(f"Embedbar {precision}, candle", [*probe, str(file), "--backend", "candle"]),
                *llamas(file, theirs, file.with_name("tokenizer.json")),
            ]
            weights = block_weights(configuration)
            found[name] = Model(name, weights, BITS[precision], file.with_name("tokenizer.json"), engines)
    return found


class Texts:
    """Makes texts of an exact number of tokens, special tokens included."""

    def __init__(self, file: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(file))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.end = self.tokenizer.token_to_id(QWEN_END)
        self.chance = random.Random(BULK_SEED)

    def count(self, text: str) -> int:
        ids = self.tokenizer.encode(text).ids
        return len(ids) + (self.end is not None and ids[-1:] != [self.end])

    def of(self, tokens: int) -> str:
        for _ in range(100):
            words = self.chance.choices(WORDS, k=tokens)
            while self.count(" ".join(words)) > tokens:
                words.pop()
            if self.count(text := " ".join(words)) == tokens:
                return text
        raise SystemExit(f"no text of {tokens} tokens was found")


def works(found: dict[str, Model], inputs: Inputs) -> list[Work]:
    """The rows of the goals."""
    listed: list[Work] = []

    def add(model: str, name: str, lengths: list[int], rounds: int, peer: str, goal: float) -> None:
        texts = Texts(found[model].tokenizer)
        lines = [texts.of(length) for length in sorted(lengths)]
        path = inputs.work / f"{len(listed)}.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        batches = BATCHES if len(lines) > 1 else (1,)
        listed.append(
            Work(f"{model}, {name}", found[model], sum(lengths), path, len(lines), rounds, batches, peer, goal)
        )

    bulk, rounds = (64, 30) if inputs.quick else (192, 60)
    chance = random.Random(BULK_SEED)
    add("MiniLM", "8 tokens", [8], rounds, "onnxruntime INT8", 0.6)
    add("MiniLM", "64 tokens", [64], rounds, "onnxruntime INT8", 0.65)
    add("MiniLM", "bulk of 60 tokens", [60] * bulk, 1, "onnxruntime INT8", 1.3)
    add("MiniLM", "bulk of 10 to 199 tokens", [chance.randint(10, 199) for _ in range(bulk)], 1, "onnxruntime INT8", 1.5)
    for model in found:
        theirs = next(it.name for it in found[model].engines if it.name.startswith("llama.cpp"))
        if model.startswith("Qwen3 0.6B"):
            add(model, "16 tokens", [16], 6, theirs, 0.3 if "INT8" in model else 0.35)
            add(model, "128 tokens", [128], 3, theirs, 0.3 if "INT8" in model else 0.45)
        elif model.startswith("Qwen3 4B"):
            add(model, "16 tokens", [16], 3, theirs, 0.4)
    return listed


# ------------------------------------------------------------------------------------------------------- measuring


def bandwidth() -> float:
    """Bytes a second that one core reads from memory, the best of two ways that numpy has."""
    numbers = np.ones(1 << 27, dtype=np.float32)
    bits, least = numbers.view(np.uint64), []
    for read in (lambda: np.bitwise_or.reduce(bits), lambda: float(np.dot(numbers, numbers)), lambda: bits.max()):
        for _ in range(4):
            started = time.thread_time()
            read()
            least.append(time.thread_time() - started)
    return numbers.nbytes / min(least)


def peak(products: Path) -> float:
    """Multiplications a second in the best INT8 product of Embedbar's kernels, on one core."""
    done = subprocess.run([str(products), "1024x3072", "8/"], stdout=subprocess.PIPE, text=True, check=True)
    rates = [float(rate) for rate in re.findall(r"\((\d+)\)", done.stdout.split("\n", 1)[1])]
    return max(rates) * 1e9


def processor() -> str:
    """What the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    kinds = [kind for kind in ("avx2", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm") if kind in str(said.values())]
    return f"{said.get('model name', platform.machine())} ({', '.join(kinds)})"


def machine(products: Path) -> Machine:
    with held_to(1):
        return Machine(bandwidth(), peak(products), processor())


def measure(listed: list[Work], turns: int, threads: int) -> list[Figure]:
    """Every engine in turn, `turns` times over; the best batch of each engine is the one with the least median."""
    runs: dict[tuple[int, str, int], list[dict]] = {}
    for turn in range(turns):
        for index, work in enumerate(listed):
            for batch in work.batches:
                for engine in work.model.engines:
                    run = engine.run(work.texts, work.rounds + WARM_UP * (not work.bulk), batch, threads, turn)
                    if run["tokens"] not in (None, work.tokens):
                        raise SystemExit(f"{engine.name} reads {run['tokens']} tokens, not {work.tokens}: {work.name}")
                    runs.setdefault((index, engine.name, batch), []).append(run)
            print(f"turn {turn + 1} of {turns}, {work.name}; load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    best: dict[tuple[int, str], Figure] = {}
    for (index, engine, batch), found in runs.items():
        work = listed[index]
        rounds = [one for run in found for one in run["rounds"][0 if work.bulk else WARM_UP :]]
        times = {key: spread([one[key] / work.count for one in rounds]) for key in ("cpu_ms", "wall_ms")}
        figure = Figure(work, engine, batch, threads, **times, rss=max(run["rss_peak_bytes"] for run in found))
        other = best.get((index, engine))
        if other is None or figure.cpu_ms["median"] < other.cpu_ms["median"]:
            best[index, engine] = figure
    return list(best.values())


def starts(inputs: Inputs, work: Work) -> dict[str, dict[str, float]]:
    """From the start of the process to the first vector, on all cores; the model has been loaded before on this machine."""
    spent: dict[str, list[float]] = {}
    whole = [str(inputs.embedbar), "embed", "--json", "--model", str(inputs.bundled / BUNDLED), work.texts.read_text().strip()]
    for _ in range(STARTS):
        for engine in work.model.engines:
            run = engine.run(work.texts, 0, 1, cores())
            spent.setdefault(engine.name, []).append(run["start_ms"])
            if not engine.own:
                spent.setdefault(f"{engine.name}, without Python's start", []).append(run["load_ms"])
        with tempfile.TemporaryDirectory() as home:
            started = time.perf_counter()
            subprocess.run([*whole, "--home", home], stdout=subprocess.DEVNULL, check=True)
            spent.setdefault("`embedbar embed` from nothing", []).append((time.perf_counter() - started) * 1e3)
    return {name: spread(times) for name, times in spent.items()}


def quality(inputs: Inputs, model: Model) -> dict[str, tuple[float, float, float]]:
    """Mean and least cosine with the F32 vectors of sentence-transformers, and the share of the ten nearest that stay."""
    texts = [entry["text"] for entry in json.loads(SENTENCES.read_text(encoding="utf-8"))]
    listed = inputs.work / "sentences.json"
    listed.write_text(json.dumps(texts))
    truth = read_safetensors(TRUTH)["embeddings"].astype(np.float64)
    four = converted(inputs.embedbar, inputs.checkpoint, inputs.cache / "bench-swap" / "all-MiniLM-L6-v2-4bit" / "model.gguf", "--4bit")
    bundled = inputs.bundled / BUNDLED
    own = {
        "Embedbar INT8": (bundled, "kernels"),
        "Embedbar INT8, candle": (bundled, "candle"),
        "Embedbar 4-bit": (four, "kernels"),
        "Embedbar F32": (inputs.checkpoint, "kernels"),
    }
    vectors = {name: embedbar_vectors(inputs.embedbar, *which, texts) for name, which in own.items()}
    for engine in model.engines:
        if not engine.own:
            target = inputs.work / "vectors.npy"
            command = [*engine.command, "--texts", str(listed), "--rounds", "0", "--batch", "1", "--vectors", str(target)]
            subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, stderr=subprocess.DEVNULL)
            vectors[engine.name] = np.load(target)
    return {name: compared(found.astype(np.float64), truth) for name, found in vectors.items()}


def embedbar_vectors(program: Path, model: Path, backend: str, texts: list[str]) -> np.ndarray:
    with tempfile.TemporaryDirectory() as home:
        command = [program, "--home", home, "--json", "embed", "--model", model, "--backend", backend, "--", *texts]
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True)
    return np.array([json.loads(line)["embedding"] for line in done.stdout.splitlines()])


def compared(found: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    found, truth = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (found, truth))
    cosines = (found * truth).sum(axis=1)

    def nearest(rows: np.ndarray) -> np.ndarray:
        close = rows @ rows.T
        np.fill_diagonal(close, -2.0)
        return np.argsort(-close, axis=1)[:, :10]

    shared = [len(set(one) & set(other)) for one, other in zip(nearest(found), nearest(truth))]
    return float(cosines.mean()), float(cosines.min()), float(np.mean(shared)) / 10


# ------------------------------------------------------------------------------------------------------ the report


def of(figures: list[Figure], work: Work, engine: str) -> Figure | None:
    return next((it for it in figures if it.work is work and it.engine == engine), None)


def goals(figures: list[Figure], listed: list[Work], limits: Machine) -> str:
    """Each row of the goals."""
    lines = ["| work | peer | peer, CPU ms | Embedbar, CPU ms | measured | goal | | times the floor |", "|---|---|---|---|---|---|---|---|"]
    for work in listed:
        ours = next(it for it in figures if it.work is work)
        theirs = of(figures, work, work.peer)
        own, other = ours.cpu_ms["median"], theirs.cpu_ms["median"]
        if work.bulk:
            ratio, said = other / own, f"at least {work.goal} times as many a CPU second"
            reached, measured = ratio >= work.goal, f"{ratio:.2f} times ({1e3 / own:.0f} and {1e3 / other:.0f} a CPU second)"
        else:
            ratio, said = own / other, f"at most {work.goal}"
            reached, measured = ratio <= work.goal, f"{ratio:.2f}"
        times = own / limits.floor_ms(work)
        lines.append(
            f"| {work.name} | {work.peer} | {other:.2f} | {own:.2f} | {measured} | {said} | {'reached' if reached else 'missed'} | {times:.1f} |"
        )
    return "\n".join(lines)


def details(figures: list[Figure], limits: Machine) -> str:
    """Every engine and work."""
    head = "| work | engine | batch | CPU ms (median) | CPU ms (least) | wall ms (median) | peak RSS, MB | Embedbar / it | times the floor |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    for work in list({id(it.work): it.work for it in figures}.values()):
        group = [it for it in figures if it.work is work]
        for it in group:
            # F32 stands beside F32, everything else beside the first, Embedbar's kernels with the codes of the file.
            ours = of(figures, work, "Embedbar F32") if it.engine.endswith("F32") else group[0]
            share = "" if it is ours else f"{ours.cpu_ms['median'] / it.cpu_ms['median']:.2f}"
            lines.append(
                f"| {work.name} | {it.engine} | {it.batch} | {it.cpu_ms['median']:.2f} | {it.cpu_ms['min']:.2f} | {it.wall_ms['median']:.2f} | "
                f"{it.rss / 1e6:.0f} | {share} | {it.cpu_ms['median'] / limits.floor_ms(work):.1f} |"
            )
    return "\n".join(lines)


def two_threads(figures: list[Figure]) -> str:
    lines = ["| work | engine | wall ms (least) | wall ms (median) | CPU ms (median) |", "|---|---|---|---|---|"]
    for it in figures:
        lines.append(f"| {it.work.name} | {it.engine} | {it.wall_ms['min']:.2f} | {it.wall_ms['median']:.2f} | {it.cpu_ms['median']:.2f} |")
    return "\n".join(lines)


def start_table(spent: dict[str, dict[str, float]]) -> str:
    lines = ["| start to first vector, MiniLM | least, ms | median, ms |", "|---|---|---|"]
    lines += [f"| {name} | {times['min']:.0f} | {times['median']:.0f} |" for name, times in spent.items()]
    reached = "reached" if spent["Embedbar INT8"]["min"] <= 40 else "missed"
    return "\n".join([*lines, "", f"The goal is at most 40 ms for Embedbar INT8 (least): {reached}. The peers' first rows include the start of Python."])


def quality_table(found: dict[str, tuple[float, float, float]]) -> str:
    lines = ["| vectors of MiniLM beside F32 | cosine (mean) | cosine (least) | overlap of the ten nearest |", "|---|---|---|---|"]
    lines += [f"| {name} | {mean:.5f} | {least:.5f} | {shared:.3f} |" for name, (mean, least, shared) in found.items()]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------- the chart

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 860, 252, 140, 92, 34
BAR, GAP, CAP = 13, 16, 4.0
INK, QUIET, GRID, PAPER = "#1f2937", "#6b7280", "#e5e7eb", "#ffffff"
COLOURS = {"Embedbar": "#0f62ae", "Embedbar on candle": "#93b8dc", "onnxruntime": "#b45309", "llama.cpp": "#94a3b8", "llama.cpp with AMX": "#64748b"}


def family(engine: str) -> str:
    if engine.endswith("candle"):
        return "Embedbar on candle"
    return "llama.cpp with AMX" if engine.endswith("AMX") else engine.split()[0]


def chart(figures: list[Figure], listed: list[Work], caption: str) -> str:
    """Processor time for a text beside the best peer's, which is 1: a group for each work, F32 left out."""
    groups = [(work, [it for it in figures if it.work is work and "F32" not in it.engine]) for work in listed]
    height = TOP + BOTTOM + sum(len(group) * (BAR + 2) + GAP for _, group in groups)

    def x(ratio: float) -> float:
        return LEFT + min(ratio, CAP) / CAP * (WIDTH - LEFT - RIGHT)

    def words(at_x: float, at_y: float, text: str, colour: str = QUIET, anchor: str = "start", more: str = "") -> str:
        return f'<text x="{at_x:.1f}" y="{at_y:.1f}" fill="{colour}" text-anchor="{anchor}" {more}>{text}</text>'

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" fill="none" role="img"',
        ' font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="12">',
        f"<title>{caption}</title>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" fill="{PAPER}" stroke="{GRID}"/>',
        words(24, 28, "Processor time for a text, the best peer's being 1; shorter is better", INK, more='font-size="15" font-weight="600"'),
        words(24, 47, caption),
    ]
    at = 24
    for name, colour in COLOURS.items():
        if not any(family(it.engine) == name for _, group in groups for it in group):
            continue
        out.append(f'<rect x="{at}" y="60" width="12" height="12" rx="2" fill="{colour}"/>')
        out.append(words(at + 18, 70, name, INK))
        at += 18 + int(len(name) * 6.6) + 24
    for number in range(int(CAP) + 1):
        out.append(f'<path d="M{x(number):.1f} {TOP - 6}V{height - BOTTOM}" stroke="{QUIET if number == 1 else GRID}"/>')
        out.append(words(x(number), height - BOTTOM + 18, f"{number}", anchor="middle"))
    y = TOP
    for work, group in groups:
        least = min(it.cpu_ms["median"] for it in group if not it.engine.startswith("Embedbar"))
        out.append(words(LEFT - 10, y + len(group) * (BAR + 2) / 2 + 3, work.name, INK, "end"))
        for it in group:
            ratio = it.cpu_ms["median"] / least
            out.append(f'<rect x="{LEFT}" y="{y}" width="{x(ratio) - LEFT:.1f}" height="{BAR}" rx="2" fill="{COLOURS[family(it.engine)]}"/>')
            said = f"{ratio:.2f}{' →' if ratio > CAP else ''} · {it.cpu_ms['median']:.{1 if it.cpu_ms['median'] < 100 else 0}f} ms"
            out.append(words(x(ratio) + 6, y + BAR - 2.5, said, INK if ratio < 1 else QUIET, more='font-size="11"'))
            y += BAR + 2
        y += GAP
    return "\n".join([*out, "</svg>"]) + "\n"


# ------------------------------------------------------------------------------------------------------------------


def arguments_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedbar", type=Path, required=True, help="the release binary")
    parser.add_argument("--generator", type=Path, required=True, help="the example random_checkpoint")
    parser.add_argument("--products", type=Path, required=True, help="the kernels' example products")
    parser.add_argument("--bundled", type=Path, required=True, help=f"folder with {BUNDLED}")
    parser.add_argument("--cache", type=Path, required=True, help="where checkpoints and llama.cpp are kept")
    parser.add_argument("--quick", action="store_true", help="fewer turns and shorter ones, and one thread alone")
    parser.add_argument("--turns", type=int, help="how often every engine runs [default: 3, quick 1]")
    parser.add_argument("--large", action="store_true", help="the shape of Qwen3-Embedding-4B as well: 25 GB of disk")
    parser.add_argument("--only", default="", help="only works whose name contains this")
    parser.add_argument("--svg", type=Path, help="write the chart here")
    parser.add_argument("--json", type=Path, help="write every figure here")
    return parser.parse_args()


def main() -> None:
    arguments = arguments_of()
    turns = arguments.turns or (1 if arguments.quick else 3)
    with tempfile.TemporaryDirectory() as folder:
        work_folder = Path(folder)
        # What Embedbar writes beside a model, its packed form, stays out of the checkout.
        bundled = work_folder / "bundled"
        shutil.copytree(arguments.bundled, bundled)
        inputs = Inputs(
            arguments.embedbar.resolve(), arguments.generator.resolve(), arguments.products.resolve(), bundled,
            arguments.cache.resolve(), work_folder, arguments.quick, arguments.large,
        )
        found = models(inputs)
        listed = [work for work in works(found, inputs) if arguments.only in work.name]
        for model in {id(work.model): work for work in listed}.values():
            for engine in model.model.engines:
                engine.run(model.texts, 0, 1, cores())  # writes what is written at the first start
        limits = machine(inputs.products)
        first = listed[0]
        started = starts(inputs, first) if first.model.name == "MiniLM" else {}
        figures = measure(listed, turns, 1)
        several = [work for work in listed if not work.bulk]
        wide = measure(several, turns, 2) if cores() > 1 and not arguments.quick else []
        vectors = quality(inputs, found["MiniLM"]) if first.model.name == "MiniLM" else {}
    print(
        f"{limits.described}; one core reads {limits.bytes_per_second / 1e9:.1f} GB/s and multiplies {limits.multiplications_per_second / 1e9:.0f} "
        f"GMAC/s in the kernels' best INT8 product. Turns: {turns}.\n"
    )
    print(goals(figures, listed, limits), "\n")
    print(details(figures, limits), "\n")
    if wide:
        print(f"Two threads:\n\n{two_threads(wide)}\n")
    if started:
        print(start_table(started), "\n")
        print(quality_table(vectors))
    if arguments.svg:
        arguments.svg.write_text(chart(figures, listed, f"one thread; {limits.described}"))
    if arguments.json:
        kept = [vars(it) | {"work": it.work.name, "floor_ms": limits.floor_ms(it.work)} for it in [*figures, *wide]]
        arguments.json.write_text(
            json.dumps({"machine": vars(limits), "figures": kept, "starts": started, "quality": vectors}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
