"""Watches the worker's memory while it embeds 20,000 texts of all lengths, and draws it.

`cargo xtask bench -- soak` builds the release and starts this; it needs Python alone. Texts have 1 to 512 words of a fixed
vocabulary, as many of one to two words as of 256 to 512 (log-uniform; about a token a word), and come in batches of 1 to 32 with a
single query now and then, the same ones each time. Once a second it writes down what the program says of its worker (anonymous
pages, as the memory gauge shows them) and what the kernel says (resident set, proportional set). Afterwards: the slope of
the footprint by least squares over the last four fifths, with its standard error, and the peak beside the planner's estimate.

Prints Markdown; `--svg` draws the graph of the README. Exits with 1 only where a request fails.
"""

import argparse
import itertools
import json
import math
import random
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from server import WORDS, Server, quantile, resident

MB = 1e6
LONGEST = 512
LARGEST_BATCH = 32
QUERY_EVERY = 10
WARM_UP = 0.2
"""The share of the texts after which the slope counts."""
ALLOWED = 1.15
"""Times the estimate."""
SEED = 20_000


@dataclass
class Sample:
    """One reading, bytes; `texts` had been embedded by then."""

    seconds: float
    texts: int
    footprint: int
    resident: int
    proportional: int
    pid: int


@dataclass
class Soak:
    """The work and what is seen of it."""

    server: Server
    total: int
    done: int = 0
    tokens: int = 0
    samples: list[Sample] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def work(self) -> None:
        chance, requests = random.Random(SEED), 0
        while self.done < self.total:
            size = 1 if requests % QUERY_EVERY == QUERY_EVERY - 1 else chance.randint(1, LARGEST_BATCH)
            texts = [text_of(chance) for _ in range(min(size, self.total - self.done))]
            items = self.server.own.call("embed", {"texts": texts})["items"]
            if len(items) != len(texts):
                raise SystemExit(f"{len(texts)} texts were sent and {len(items)} vectors came back")
            self.done, requests = self.done + len(texts), requests + 1
            self.tokens += sum(item["tokens"] for item in items)
            if requests % 100 == 0:
                self.tell()

    def tell(self) -> None:
        minutes = (time.monotonic() - self.started) / 60
        print(f"{self.done:,} of {self.total:,} texts after {minutes:.1f} min", file=sys.stderr, flush=True)

    def watch(self, ended: threading.Event) -> None:
        client = self.server.client()
        while not ended.wait(1.0):
            snapshot = client.call("snapshot")
            if snapshot["model"]["state"] != "ready":
                continue
            memory, pid = snapshot["memory"], snapshot["model"]["worker_pid"]
            kernel = resident(pid)
            if memory["worker_bytes"] is not None:
                own = kernel.get("Rss", memory["worker_resident_bytes"] or 0), kernel.get("Pss", 0)
                self.samples.append(Sample(time.monotonic() - self.started, self.done, memory["worker_bytes"], *own, pid))


def text_of(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=round(LONGEST ** chance.random())))


def slope(samples: list[Sample]) -> tuple[float, float]:
    """Bytes per text by least squares, and the standard error; readings that follow each other are alike, so that they count less."""
    count = len(samples)
    mean_x, mean_y = sum(s.texts for s in samples) / count, sum(s.footprint for s in samples) / count
    spread = sum((s.texts - mean_x) ** 2 for s in samples)
    found = sum((s.texts - mean_x) * (s.footprint - mean_y) for s in samples) / spread
    rest = [s.footprint - mean_y - found * (s.texts - mean_x) for s in samples]
    squares = sum(it * it for it in rest) or 1.0
    alike = min(max(sum(one * next_one for one, next_one in itertools.pairwise(rest)) / squares, 0.0), 0.99)
    return found, math.sqrt(squares / max(count - 2, 1) / spread * (1 + alike) / (1 - alike))


def estimate(embedbar: Path, home: Path) -> int:
    """What the planner says that the bundled model needs to run."""
    command = [embedbar, "plan", "--model", "all-MiniLM-L6-v2", "--json", "--home", home]
    plan = json.loads(subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE).stdout)
    found = [it for it in plan["candidates"] if (it["backend"], it["precision"]) == ("cpu", "int8")]
    return found[0]["running_bytes"]


# ------------------------------------------------------------------------------------------------------- the graph

WIDTH, HEIGHT = 860, 400
LEFT, RIGHT, TOP, BOTTOM = 68, 24, 76, 56
INK, QUIET, GRID, PAPER = "#1f2937", "#6b7280", "#e5e7eb", "#ffffff"
FOOTPRINT, RESIDENT, LIMIT = "#0f62ae", "#94a3b8", "#b45309"


def step_of(highest: float, most: int) -> float:
    """A round distance between at most so many lines."""
    for step in (size * 10**power for power in range(8) for size in (1, 2, 5)):
        if highest / step <= most:
            return step
    return highest


def graph(samples: list[Sample], texts: int, expected: int, caption: str) -> str:
    highest = max(max(max(s.resident, s.footprint) for s in samples), expected * ALLOWED) / MB * 1.12

    def x(done: float) -> float:
        return LEFT + done / texts * (WIDTH - LEFT - RIGHT)

    def y(megabytes: float) -> float:
        return HEIGHT - BOTTOM - megabytes / highest * (HEIGHT - TOP - BOTTOM)

    def words(at_x: float, at_y: float, text: str, colour: str = QUIET, anchor: str = "start", more: str = "") -> str:
        return f'<text x="{at_x:.1f}" y="{at_y:.1f}" fill="{colour}" text-anchor="{anchor}" {more}>{text}</text>'

    def line(value: float, colour: str, dash: str, width: float = 1.5) -> str:
        return f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}"/>'

    def curve(name: str, colour: str, width: float) -> str:
        points = [(x(s.texts), y(getattr(s, name) / MB)) for s in samples]
        return f'<path d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in points)}" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>'

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" fill="none" role="img"',
        ' font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="12">',
        f"<title>{caption}</title>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8" fill="{PAPER}" stroke="{GRID}"/>',
        words(LEFT, 28, "The worker's memory over the soak", INK, more='font-size="15" font-weight="600"'),
        words(WIDTH - RIGHT, 28, caption, anchor="end"),
    ]
    entries = [(FOOTPRINT, "", "footprint (anonymous pages)"), (RESIDENT, "", "resident set"), (LIMIT, "6 4", "estimate"), (LIMIT, "2 3", f"{ALLOWED} × estimate")]
    at = LEFT
    for colour, dash, name in entries:
        out.append(f'<path d="M{at} 49h22" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash or "none"}"/>')
        out.append(words(at + 29, 53, name, INK))
        at += 29 + int(len(name) * 6.6) + 20
    step = step_of(highest, 6)
    for number in range(int(highest / step) + 1):
        out.append(f'<path d="M{LEFT} {y(number * step):.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        out.append(words(LEFT - 9, y(number * step) + 4, f"{number * step:.0f}", anchor="end"))
    step = step_of(texts, 8)
    for number in range(int(texts / step) + 1):
        # The last one would stick out.
        anchor = "end" if number * step == texts else "middle"
        out.append(words(x(number * step), HEIGHT - BOTTOM + 20, f"{number * step:,.0f}", anchor=anchor))
    out.append(words((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "texts embedded", INK, "middle"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(words(20, middle, "MB", INK, "middle", f'transform="rotate(-90 20 {middle:.0f})"'))
    out += [line(expected / MB, LIMIT, "6 4"), line(expected * ALLOWED / MB, LIMIT, "2 3")]
    out += [curve("resident", RESIDENT, 1.5), curve("footprint", FOOTPRINT, 2)]
    return "\n".join([*out, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--embedbar", type=Path, required=True, help="the release binary")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--svg", type=Path, help="write the graph here")
    parser.add_argument("--json", type=Path, help="write every sample here")
    parser.add_argument("--redraw", type=Path, help="measure nothing; draw and count what `--json` wrote")
    arguments = parser.parse_args()
    if arguments.redraw:
        kept = json.loads(arguments.redraw.read_text())
        samples, expected, tokens, texts = [Sample(**it) for it in kept["samples"]], kept["estimate"], kept["tokens"], kept["texts"]
    else:
        with Server(arguments.embedbar) as server:
            server.ready()
            expected, soak, ended = estimate(arguments.embedbar, server.home), Soak(server, arguments.texts), threading.Event()
            watcher = threading.Thread(target=soak.watch, args=(ended,))
            watcher.start()
            try:
                soak.work()
            finally:
                ended.set()
                watcher.join()
        samples, tokens, texts = soak.samples, soak.tokens, soak.done
    if arguments.json and not arguments.redraw:
        kept = {"texts": texts, "tokens": tokens, "estimate": expected, "samples": [vars(sample) for sample in samples]}
        arguments.json.write_text(json.dumps(kept) + "\n")
    settled = [sample for sample in samples if sample.texts >= texts * WARM_UP]
    if len(settled) < 2:
        raise SystemExit("this was too short to say anything: take more texts")
    growth, error = (it * 10_000 / MB for it in slope(settled))
    peak, most_resident = max(s.footprint for s in samples), max(s.resident for s in samples)
    minutes = samples[-1].seconds / 60
    print(f"\n{texts:,} texts, {tokens:,} tokens in {minutes:.1f} min; {len(samples)} readings; {len({s.pid for s in samples})} worker\n")
    print("| figure | measured | goal |\n|---|---|---|")
    print(f"| footprint's slope after the first {WARM_UP:.0%} of the texts | {growth:+.2f} MB in 10,000 texts, standard error {error:.2f} | about 0 |")
    print(f"| footprint's peak / estimate ({expected / MB:.0f} MB) | {peak / MB:.1f} MB, {peak / expected:.2f} | at most {ALLOWED} |")
    print(f"| resident set's peak / estimate | {most_resident / MB:.1f} MB, {most_resident / expected:.2f} | |")
    halves = [quantile([s.footprint / MB for s in half], 0.5) for half in (settled[: len(settled) // 2], settled[len(settled) // 2 :])]
    print(f"\nFootprint's median in the earlier half after the warm-up: {halves[0]:.1f} MB, in the later: {halves[1]:.1f} MB.")
    if arguments.svg:
        caption = f"{texts:,} texts of 1 to {LONGEST} words, all-MiniLM-L6-v2 INT8"
        arguments.svg.write_text(graph(samples, texts, expected, caption))


if __name__ == "__main__":
    main()
