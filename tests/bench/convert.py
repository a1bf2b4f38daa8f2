"""Measures conversions: time beside `cp`, peak memory, the same under a hard limit, and both beside coremltools.

`cargo xtask bench convert` builds the release, makes the environment (requirements-convert.txt) and starts this. The
checkpoint has the exact shapes of Qwen3-Embedding-4B and random weights, so it says nothing about quality: certificates
are made with `--floor 0`. Peak memory is what the kernel counts for the process (VmHWM); the converter has no children.
Prints Markdown; asserts only that conversions succeed.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from checkpoints import MIB, random_qwen3

LIMIT = 512 * MIB
"""Data that a process may have in the hard proof."""

TARGETS = [
    ("FP16 GGUF", "x.gguf", ["--fp16"]),
    ("INT8 GGUF", "x.gguf", ["--int8"]),
    ("4-bit GGUF (Q4_K)", "x.gguf", ["--k4bit"]),
    ("FP16 package", "x.mlpackage", ["--fp16"]),
    ("INT8 package", "x.mlpackage", ["--int8"]),
    ("4-bit package (palettes)", "x.mlpackage", ["--k4bit"]),
    ("4-bit package (block-32)", "x.mlpackage", ["--k4bit", "--target", "macos15"]),
]

PEERS = [("0.5 GB", "0.6b:6"), ("1 GB", "4b:1"), ("2 GB", "4b:6")]


@dataclass
class Run:
    """One process, measured."""

    seconds: float
    peak: int
    output: str


def measure(command: list[str], limit: int | None = None) -> Run:
    """Runs a command to its end; `limit` bounds the data that it may have."""
    bounded = (lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))) if limit else None
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=bounded)
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024)
        except (OSError, TypeError):
            pass  # it has just ended
        time.sleep(0.02)
    output = process.stdout.read()
    if process.returncode:
        sys.exit(f"failed with {process.returncode}: {' '.join(command)}")
    return Run(time.monotonic() - started, peak, output)


def empty(folder: Path) -> None:
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    folder.mkdir(parents=True)


def convert(arguments: argparse.Namespace, source: Path, name: str, options: list[str], limit: int | None = None) -> Run:
    out = arguments.work / "out"
    empty(out)
    forget(source / "model.safetensors")
    command = [str(arguments.embedbar), "convert", "--json", "--hf", str(source), "--out", str(out / name), *options]
    return measure(command, limit)


def forget(path: Path) -> None:
    """Drops a file from the page cache: who converts on a full laptop reads from the disk, and so does `cp` beside it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copied(arguments: argparse.Namespace, source: Path) -> float:
    """Seconds that `cp` and a sync of the same file take on the same disk."""
    out = arguments.work / "out"
    empty(out)
    weights, copy = source / "model.safetensors", out / "copy"
    forget(weights)
    started = time.monotonic()
    subprocess.run(["cp", "--reflink=never", str(weights), str(copy)], check=True)
    subprocess.run(["sync", str(copy)], check=True)
    return time.monotonic() - started


def conversions(arguments: argparse.Namespace) -> None:
    source = random_qwen3(arguments.generator, arguments.work, arguments.model)
    size = (source / "model.safetensors").stat().st_size
    copy = copied(arguments, source)
    print(f"\n## {size / 1e9:.2f} GB; cp and sync: {copy:.1f} s, {size / copy / 1e6:.0f} MB/s\n")
    print("| target | time | of the speed of cp | MB/s read | peak memory | under 512 MiB of data |")
    print("|---|---|---|---|---|---|")
    for title, name, options in TARGETS:
        run = convert(arguments, source, name, [*options, "--no-certificate"])
        bounded = convert(arguments, source, name, [*options, "--no-certificate"], LIMIT) if arguments.limit else None
        proof = f"succeeds, {bounded.peak / MIB:.0f} MiB" if bounded else "not tried"
        rate = size / run.seconds
        print(
            f"| {title} | {run.seconds:.1f} s | {copy / run.seconds:.2f} | {rate / 1e6:.0f} | {run.peak / MIB:.0f} MiB | {proof} |",
            flush=True,
        )


def certificates(arguments: argparse.Namespace) -> None:
    source = random_qwen3(arguments.generator, arguments.work, arguments.model)
    print("\n## With a certificate\n\n| target | conversion | certificate | peak memory |\n|---|---|---|---|")
    for title, name, options in TARGETS[1:2] + TARGETS[4:5]:
        run = convert(arguments, source, name, [*options, "--floor", "0"], LIMIT)
        made = json.loads(run.output)["certificate"]
        times = [made[key] / 1e3 for key in ("conversion_ms", "certification_ms")]
        print(f"| {title} | {times[0]:.1f} s | {times[1]:.0f} s | {run.peak / MIB:.0f} MiB |", flush=True)


QUANTISE = """
import sys
import coremltools as ct
from coremltools.optimize.coreml import OpLinearQuantizerConfig, OptimizationConfig, linear_quantize_weights
model = ct.models.MLModel(sys.argv[1], skip_model_load=True)
config = OptimizationConfig(global_config=OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=512))
linear_quantize_weights(model, config).save(sys.argv[2])
"""


def peers(arguments: argparse.Namespace) -> None:
    print("\n## INT8 packages beside coremltools, which quantises a finished FP16 package\n")
    print("| FP16 size | coremltools | Embedbar, from the checkpoint | time | memory |\n|---|---|---|---|---|")
    for title, which in PEERS:
        source = random_qwen3(arguments.generator, arguments.work, which)
        convert(arguments, source, "half.mlpackage", ["--fp16", "--no-certificate", "--target", "macos13"])
        out = arguments.work / "out"
        theirs = measure([sys.executable, "-c", QUANTISE, str(out / "half.mlpackage"), str(out / "int8.mlpackage")])
        ours = convert(arguments, source, "x.mlpackage", ["--int8", "--no-certificate", "--target", "macos13"])
        print(
            f"| {title} | {theirs.seconds:.1f} s, {theirs.peak / MIB:.0f} MiB | {ours.seconds:.1f} s, {ours.peak / MIB:.0f} MiB "
            f"| {ours.seconds / theirs.seconds:.2f} | {ours.peak / theirs.peak:.3f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--embedbar", type=Path, required=True)
    parser.add_argument("--generator", type=Path, required=True, help="the example random_checkpoint, built")
    parser.add_argument("--work", type=Path, required=True, help="a folder with 25 GB of room")
    parser.add_argument("--model", default="4b", help="4b, 0.6b, or one of them with fewer layers: 4b:6")
    parser.add_argument("--limit", action="store_true", help="convert everything once more under the hard limit")
    parser.add_argument("--only", choices=["conversions", "certificates", "peers"], help="one part; all by default")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    parts = {"conversions": conversions, "certificates": certificates, "peers": peers}
    for name, part in parts.items():
        if arguments.only in (None, name):
            part(arguments)
    empty(arguments.work / "out")


if __name__ == "__main__":
    main()
