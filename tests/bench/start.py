"""Measures how soon a worker answers: from the start of its process to its first vector, and what it holds in memory then.

`cargo xtask bench -- start` builds the release and the generator of checkpoints and starts this. The model was loaded before on this
machine: its packed matrices and its compiled tokenizer are there, and all files are in the page cache. The first load, which makes
them, is reported apart. Two processes then compute with the same model at the same time: what they share counts half for each
(Linux's proportional set size).

- MiniLM has its real weights, Qwen3-Embedding's shapes have random ones, converted by `embedbar convert`; `--large` adds the 4B shape.
- The goals are those of the project: 40 ms for MiniLM, 150 ms for 0.6B in INT8, 500 ms for 4B in 4-bit, and a resident set of at
  most 1.15 times the model's file.

Prints Markdown. It asserts nothing about speed: it fails only where a load does.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from checkpoints import converted, random_qwen3

BUNDLED = "all-MiniLM-L6-v2-int8.gguf"
TEXT = "How do I keep the embedding model in memory?"
STARTS = 9
ROUNDS_OF_COMPANY = 100_000
SETTLED = 5.0
"""Seconds until two processes have touched all that they need."""


@dataclass
class Model:
    """A file, and the milliseconds within which it is to answer."""

    name: str
    file: Path
    goal_ms: float | None


@dataclass
class Start:
    """Milliseconds from the start of the process, and bytes."""

    first_ms: float
    later_ms: list[float]
    rss: int
    together: list[dict[str, int]]


def models(arguments: argparse.Namespace, work: Path) -> list[Model]:
    # What a model's file needs beside it is in its folder.
    bundled = work / "bundled"
    shutil.copytree(arguments.bundled, bundled)
    found = [Model("MiniLM INT8", bundled / BUNDLED, 40.0)]
    folder = arguments.cache / "bench-convert"
    for shape in ["0.6b", "4b"] if arguments.large else ["0.6b"]:
        source = random_qwen3(arguments.generator.resolve(), folder, shape)
        for option, precision in [("int8", "INT8"), ("4bit", "4-bit")]:
            goal = {("0.6b", "int8"): 150.0, ("4b", "4bit"): 500.0}.get((shape, option))
            file = converted(arguments.embedbar.resolve(), source, folder / "models" / f"{shape}-{option}" / "model.gguf", f"--{option}")
            found.append(Model(f"Qwen3 {shape.upper()} shape, {precision}", file, goal))
    return found


def command(program: Path, model: Model, work: Path, rounds: int) -> list[str]:
    texts = work / "text.txt"
    texts.write_text(TEXT + "\n", encoding="utf-8")
    words = [program, "probe", "--model", model.file, "--texts", texts, "--packed", work / "packed", "--rounds", rounds]
    return [str(word) for word in words]


def once(words: list[str]) -> tuple[float, int]:
    """Milliseconds from the start of a process to what it printed, and its peak."""
    started = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        elapsed = (time.perf_counter() - started) * 1e3
    if process.returncode != 0:
        raise SystemExit(f"`embedbar probe` failed with status {process.returncode}")
    return elapsed, json.loads(line)["rss_peak_bytes"]


def memory(process: int) -> dict[str, int]:
    """Bytes of a process's resident and proportional set, by Linux."""
    said = dict(line.split(":", 1) for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines() if ":" in line)
    return {name: int(said[name].split()[0]) * 1024 for name in ("Rss", "Pss")}


def in_company(words: list[str]) -> list[dict[str, int]]:
    """What each of two processes holds while both compute."""
    if not Path("/proc/self/smaps_rollup").exists():
        return []
    processes = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for _ in range(2)]
    try:
        time.sleep(SETTLED)
        return [memory(process.pid) for process in processes]
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()


def measured(program: Path, model: Model, work: Path) -> Start:
    words = command(program, model, work, 0)
    first = once(words)[0]
    later = [once(words) for _ in range(STARTS)]
    together = in_company(command(program, model, work, ROUNDS_OF_COMPANY))
    shutil.rmtree(work / "packed")
    return Start(first, [it[0] for it in later], max(it[1] for it in later), together)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedbar", type=Path, required=True, help="the release build")
    parser.add_argument("--generator", type=Path, required=True, help="the example random_checkpoint")
    parser.add_argument("--bundled", type=Path, required=True, help=f"folder with {BUNDLED}")
    parser.add_argument("--cache", type=Path, required=True, help="where checkpoints are kept")
    parser.add_argument("--large", action="store_true", help="the shape of Qwen3-Embedding-4B as well: 25 GB of disk")
    arguments = parser.parse_args()
    print("| model | file, MB | first load ever, ms | later starts, ms (least) | ms (median) | goal | | peak resident, MB | / file | two at once, each: resident, MB | its share, MB |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    # Beside the checkpoints: the packed form of a large model is as large as itself.
    with tempfile.TemporaryDirectory(dir=arguments.cache) as folder:
        for model in models(arguments, Path(folder)):
            size = model.file.stat().st_size
            start = measured(arguments.embedbar.resolve(), model, Path(folder))
            goal, reached = "", ""
            if model.goal_ms is not None:
                goal, reached = f"{model.goal_ms:.0f}", "reached" if min(start.later_ms) <= model.goal_ms else "missed"
            resident = " and ".join(f"{it['Rss'] / 1e6:.0f}" for it in start.together)
            share = " and ".join(f"{it['Pss'] / 1e6:.0f}" for it in start.together)
            print(
                f"| {model.name} | {size / 1e6:.0f} | {start.first_ms:.0f} | {min(start.later_ms):.0f} | {statistics.median(start.later_ms):.0f} | "
                f"{goal} | {reached} | {start.rss / 1e6:.0f} | {start.rss / size:.2f} | {resident} | {share} |",
                flush=True,
            )
    print(f"\n{STARTS} starts of each; load of the machine at the end {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
