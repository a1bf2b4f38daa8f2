"""Prints the performance table that this project began with, with our figures where they can be measured here.

`cargo xtask bench -- seed-table` builds the release and the generator of checkpoints, makes the environment
(requirements-tokenizer.txt) and starts this. The seed's rows and columns stay as they are; a second table has what this machine
can measure instead, at the same model's exact shape with random weights. Models are made, measured and removed one after the
other: 12 GB of disk besides the checkpoint. Every figure stands beside the command that makes it.
"""

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

from checkpoints import converted, random_qwen3
from server import Start, first_and_warm

GB = 1e9
NEEDS_MAC = "needs a Mac"


@dataclass
class Row:
    """A configuration of the seed's table; `option` is the precision of the package, where there is one."""

    name: str
    seed: tuple[str, str, str, str]
    here: str
    option: str | None = None


COLUMNS = ("First Query", "Subsequent", "Memory", "Model Size")
SEED = [
    Row("API Only", ("~100-500ms", "~100-500ms", "~0.5GB", "None"), "not Embedbar: it asks no server"),
    Row("ST (MPS)", ("~28-35s", "~1-2s", "~18GB", "~7GB"), "not Embedbar: " + NEEDS_MAC),
    Row("Core ML FP16", ("~0.2-0.3s", "~0.08-0.1s", "~2GB", "~7.5GB"), NEEDS_MAC, "fp16"),
    Row("Core ML INT8", ("~0.2-0.3s", "~0.08-0.1s", "~1.5GB", "~2-4GB"), NEEDS_MAC, "int8"),
    Row("Core ML 4-bit", ("~0.2-0.3s", "~0.08-0.1s", "~1GB", "~1-2GB"), NEEDS_MAC, "k4bit"),
]
PROCESSOR = {"fp16": "FP16", "int8": "INT8", "k4bit": "4-bit"}


def size_of(model: Path) -> int:
    return sum(file.stat().st_size for file in model.rglob("*")) if model.is_dir() else model.stat().st_size


def package_size(arguments: argparse.Namespace, option: str) -> int:
    folder = arguments.work / "seed-table"
    package = converted(arguments.embedbar, source(arguments), folder / "Model.mlpackage", f"--{option}")
    size = size_of(package)
    shutil.rmtree(folder)
    return size


def on_the_processor(arguments: argparse.Namespace, option: str) -> tuple[int, Start]:
    folder = arguments.work / "seed-table"
    model = converted(arguments.embedbar, source(arguments), folder / "model.gguf", f"--{option}")
    size, start = size_of(model), first_and_warm(arguments.embedbar, model, arguments.queries)
    shutil.rmtree(folder)
    return size, start


def source(arguments: argparse.Namespace) -> Path:
    return random_qwen3(arguments.generator, arguments.work, arguments.model)


def seed_table(arguments: argparse.Namespace) -> None:
    print(f"\n## The seed's table: its figure → ours (shape {arguments.model})\n")
    print(f"| Configuration | {' | '.join(COLUMNS)} |\n|---|---|---|---|---|")
    for row in SEED:
        ours = [row.here] * 3 + [f"{package_size(arguments, row.option) / GB:.2f} GB" if row.option else row.here]
        print(f"| {row.name} | " + " | ".join(f"{seed} → {here}" for seed, here in zip(row.seed, ours, strict=True)) + " |", flush=True)


def processor_table(arguments: argparse.Namespace) -> None:
    print(f"\n## The same shape on this machine's processor, from a GGUF file (shape {arguments.model})\n")
    print(f"| Configuration | {' | '.join(COLUMNS)} |\n|---|---|---|---|---|")
    for option in arguments.precisions:
        size, start = on_the_processor(arguments, option)
        first = f"{start.first / 1e3:.2f} s after Ready, {start.answered / 1e3:.2f} s from the start of the process"
        memory = f"{start.footprint / GB:.2f} GB, resident with the mapped file {start.resident / GB:.2f} GB"
        print(
            f"| CPU {PROCESSOR[option]} | {first} | {start.warm / 1e3:.2f} s | {memory} | {size / GB:.2f} GB |",
            flush=True,
        )


def commands() -> None:
    print("\n| figure | the command that makes it |\n|---|---|")
    print("| First Query, Subsequent, Core ML | on a Mac: `embedbar use MODEL`, then `embedbar latency --cold` |")
    print("| Memory, Core ML | on a Mac: `embedbar memory` while the model is loaded (what the system's used memory gained) |")
    print("| Model Size, Core ML | `embedbar convert --hf CHECKPOINT --out Model.mlpackage OPTION --no-certificate`, `du` of the package |")
    print("| Everything, CPU | the same conversion to `model.gguf`; `embedbar serve --model model.gguf`, then queries of ten words |")
    print("| All of this table | `cargo xtask bench -- seed-table` |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--embedbar", type=Path, required=True, help="the release binary")
    parser.add_argument("--generator", type=Path, required=True, help="the example random_checkpoint, built")
    parser.add_argument("--work", type=Path, required=True, help="where checkpoints are kept: 20 GB")
    parser.add_argument("--model", default="4b", help="4b as in the seed, 0.6b, or one of them with fewer layers: 4b:6")
    parser.add_argument("--queries", type=int, default=5, help="warm queries")
    parser.add_argument("--precisions", nargs="*", default=["int8", "k4bit"], choices=list(PROCESSOR), help="of the GGUF files")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.work / "seed-table", ignore_errors=True)
    seed_table(arguments)
    processor_table(arguments)
    commands()


if __name__ == "__main__":
    main()
