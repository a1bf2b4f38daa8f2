"""Measures what queries notice of swaps: failures, mixed generations, and how long they wait.

`cargo xtask bench -- swap` builds the release and the generator of checkpoints, makes the environment (requirements-tokenizer.txt)
and starts this. Four parts, each with its goal beside the figures:

- undisturbed and overlap: requests at a fixed rate (open loop: each is due at its time, whether or not earlier ones have been
  answered, and its latency counts from then) at MiniLM in three precisions and a second, really different model, first left
  alone, then swapped by saves of the followed `.env`. Every vector is compared with the one that the generation which it
  claims made undisturbed.
- drain: the shape of Qwen3-Embedding-0.6B in two precisions that do not fit beside each other, on a machine that is shown
  to be small (server.py, ShownLimit: the planner sees the limit, the kernel does not enforce it).
- first: the first query after `Ready` beside warm ones, and the way from the start of the process to the first answer.

Prints Markdown. Exits with 1 where a query failed or an answer was mixed; times are figures, not tests.
"""

import argparse
import itertools
import json
import math
import shutil
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from checkpoints import converted, minilm, random_qwen3
from server import WORDS, Client, Reply, Server, ShownLimit, first_and_warm, quantile, save, until

DIFFERENT_REQUESTS = 24
SAME = 0.9999
"""The least cosine between a vector and its generation's reference."""
BUSY = 0.8
"""A worker that computes for more of the time than this undisturbed is at its limit: times then say how long the queue is."""
KEPT_UP = 0.4
"""The share of the time for which the worker is to compute at a rate that it keeps up with."""
WARM_UP = 2.0
"""Seconds of a load that count for nothing but failures."""
GIB = 1 << 30

# What the followed file says, in turn: a change of precision, of the model, of both.
STATES = [
    ("all-MiniLM-L6-v2", "fp16"),
    ("minilm-three-layers", None),
    ("all-MiniLM-L6-v2", "4bit"),
    ("all-MiniLM-L6-v2", "int8"),
]


@dataclass
class Record:
    """One request of the load; times in seconds of the monotonic clock."""

    due: float
    done: float
    request: int
    reply: Reply | None
    error: str = ""

    @property
    def ms(self) -> float:
        return (self.done - self.due) * 1e3

    @property
    def items(self) -> list[dict]:
        return self.reply.body["items"] if self.reply and self.reply.status == 200 else []


@dataclass
class Load:
    """Requests at a fixed rate until it is stopped; what is due by then is still sent and waited for."""

    server: Server
    requests: list[dict]
    rate: float
    threads: int
    records: list[Record] = field(default_factory=list)
    newest: str = ""
    """The generation of the newest answer."""

    def __enter__(self) -> "Load":
        self.stopping, self.numbers, self.start = threading.Event(), itertools.count(), time.monotonic() + 0.1
        self.lock = threading.Lock()
        self.callers = [threading.Thread(target=self.run, daemon=True) for _ in range(self.threads)]
        for caller in self.callers:
            caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end = time.monotonic()
        self.stopping.set()
        for caller in self.callers:
            caller.join()

    def behind(self) -> int:
        """Requests that are due and not answered yet."""
        with self.lock:
            return math.floor((time.monotonic() - self.start) * self.rate) + 1 - len(self.records)

    def run(self) -> None:
        client = self.server.client()
        while True:
            with self.lock:
                number = next(self.numbers)
            due = self.start + number / self.rate
            if self.stopping.wait(max(0.0, due - time.monotonic())) and due > self.end:
                return
            self.ask(client, due, number % len(self.requests))

    def ask(self, client: Client, due: float, request: int) -> None:
        try:
            reply, error = client.send("embed", self.requests[request]), ""
        except OSError as failure:
            reply, error = None, repr(failure)
        record = Record(due, time.monotonic(), request, reply, error)
        with self.lock:
            self.records.append(record)
            if record.items:
                self.newest = generation_of(record.items[0])


def generation_of(item: dict) -> str:
    return json.dumps(item["generation"], sort_keys=True)


def requests(counts: list[int]) -> list[dict]:
    """The same each time: texts of 10 to 20 tokens, as many in a request as `counts` says in turn."""
    made, words = [], itertools.cycle(WORDS)
    for number in range(DIFFERENT_REQUESTS):
        count = counts[number % len(counts)]
        lengths = [8 + (number * 5 + text * 3) % 11 for text in range(count)]
        made.append({"texts": [" ".join(itertools.islice(words, length)) for length in lengths]})
    return made


def cosine(one: list[float], other: list[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


@dataclass
class References:
    """For each generation, the vectors of each request, made while nothing else went on."""

    vectors: dict[str, list[list[list[float]]]] = field(default_factory=dict)

    def take(self, server: Server, all_requests: list[dict]) -> None:
        answers = [server.own.call("embed", request)["items"] for request in all_requests]
        self.vectors[generation_of(answers[0][0])] = [[item["embedding"] for item in items] for items in answers]

    def nearest_two(self) -> float:
        """The highest cosine between two generations' vectors of one text, over the texts' medians."""
        return max(
            statistics.median(cosine(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))
            for one, other in itertools.combinations(self.vectors.values(), 2)
        )


@dataclass
class Verdict:
    """What became of the requests of a load."""

    answered: int = 0
    late: int = 0
    """503 with Retry-After."""
    failed: list[str] = field(default_factory=list)
    mixed: int = 0
    wrong: int = 0
    least: float = 1.0
    """The least cosine with the reference of the generation that was claimed."""


def judge(records: list[Record], references: References, all_requests: list[dict]) -> Verdict:
    verdict = Verdict()
    for record in records:
        if not record.items:
            if record.reply and record.reply.status == 503 and record.reply.retry_after:
                verdict.late += 1
            else:
                verdict.failed.append(record.error or f"{record.reply.status}: {record.reply.body.get('message')}")
            continue
        verdict.answered += 1
        claimed = {generation_of(item) for item in record.items}
        texts = all_requests[record.request]["texts"]
        if len(claimed) != 1 or len(record.items) != len(texts):
            verdict.mixed += 1
            continue
        expected = references.vectors[claimed.pop()][record.request]
        near = min(cosine(item["embedding"], vector) for item, vector in zip(record.items, expected, strict=True))
        verdict.least = min(verdict.least, near)
        verdict.wrong += near <= SAME
    return verdict


def percentiles(title: str, records: list[Record]) -> str:
    times = [record.ms for record in records]
    cells = [f"{quantile(times, share):.1f}" for share in (0.5, 0.95, 0.99)]
    return f"| {title} | {len(times)} | " + " | ".join(cells) + f" | {max(times):.1f} |"


def busy(records: list[Record]) -> float:
    """The share of the time in which the worker computed."""
    forward = sum(record.items[0]["timing_ms"]["forward"] for record in records if record.items)
    return forward / 1e3 / (max(record.done for record in records) - min(record.due for record in records))


def env_of(model: str, precision: str | None, number: int) -> str:
    lines = [f"# save {number}", f"EMBEDBAR_MODEL={model}"]
    return "\n".join(lines + ([f"EMBEDBAR_PRECISION={precision}"] if precision else [])) + "\n"


@dataclass
class Window:
    """From a save to the first answer of the new model."""

    opened: float
    closed: float


def swap_once(load: Load, file: Path, text: str, number: int) -> Window:
    before, opened = load.newest, time.monotonic()
    save(file, text, in_place=number % 3 == 0)
    while load.newest == before:
        if time.monotonic() - opened > 300:
            raise SystemExit(f"save {number} has not led to another model within 300 s:\n{text}\n{load.server.log()[-2000:]}")
        time.sleep(0.002)
    return Window(opened, time.monotonic())


def within(records: list[Record], windows: list[Window]) -> list[Record]:
    """Requests that were due in a window."""
    return [record for record in records if any(window.opened <= record.due <= window.closed for window in windows)]


def manners(server: Server) -> dict[str, int]:
    """How the server says that its models took their places."""
    log = server.log()
    return {manner: log.count(f"manner={manner}") for manner in ("Overlap", "DrainFirst")}


def small_models(arguments: argparse.Namespace) -> dict[str, Path]:
    """MiniLM in two more precisions, and its first three layers as a model of its own, whose vectors are really different."""
    checkpoint, work = minilm(arguments.cache), arguments.cache / "bench-swap"
    models = {}
    for name, option in (("all-MiniLM-L6-v2-fp16", "--fp16"), ("all-MiniLM-L6-v2-4bit", "--k4bit")):
        models[name] = converted(arguments.embedbar, checkpoint, work / name / "model.gguf", option)
    short = work / "three-layers"
    if not (short / "config.json").is_file():
        shutil.copytree(checkpoint, short, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md", ".git*"))
        configuration = json.loads((checkpoint / "config.json").read_text()) | {"num_hidden_layers": 3}
        (short / "config.json").write_text(json.dumps(configuration))
    return models | {"minilm-three-layers": short}


def overlapping(arguments: argparse.Namespace) -> bool:
    all_requests, references = requests(arguments.texts), References()
    with Server(arguments.embedbar, models=small_models(arguments)) as server:
        server.ready()
        file = server.follow(env_of(*STATES[-1], -1))
        # A first round takes the references, and has every file read once.
        for number, state in enumerate(STATES):
            save(file, env_of(*state, -2 - number), in_place=True)
            wait_for_swap(server, state)
            references.take(server, all_requests)
        good, share = overlap_at(arguments, server, file, references, arguments.rate)
        if share > BUSY:
            # The figures above are those of a queue. A rate that this machine keeps up with says what a swap costs.
            slower = max(arguments.rate * KEPT_UP / share * 0.8, 1.0)
            good &= overlap_at(arguments, server, file, references, math.floor(slower))[0]
        print(f"\nManner, from the log, the first round included: {manners(server)}.")
    return good


def overlap_at(
    arguments: argparse.Namespace, server: Server, file: Path, references: References, rate: float
) -> tuple[bool, float]:
    """Both loads at this rate; whether nothing failed, and the share of the time in which the worker computed undisturbed."""
    all_requests, windows = requests(arguments.texts), []
    alone = Load(server, all_requests, rate, arguments.callers)
    with alone:
        time.sleep(arguments.seconds)
    load = Load(server, all_requests, rate, arguments.callers)
    with load:
        time.sleep(WARM_UP)
        for number in range(arguments.swaps):
            windows.append(swap_once(load, file, env_of(*STATES[number % len(STATES)], number), number))
            time.sleep(arguments.pause)
    undisturbed = [record for record in alone.records if record.due > alone.start + WARM_UP]
    disturbed = within(load.records, windows)
    verdict = judge(alone.records + load.records, references, all_requests)
    took = [(window.closed - window.opened) * 1e3 for window in windows]
    rates = f"{rate:.0f} requests a second, {' or '.join(map(str, arguments.texts))} texts in each"
    print(f"\n## Overlap: {arguments.swaps} swaps by saves of the `.env`, {rates}\n")
    print("| requests | number | p50 ms | p95 ms | p99 ms | longest ms |\n|---|---|---|---|---|---|")
    print(percentiles("undisturbed", undisturbed))
    print(percentiles("due between a save and the new model's first answer", disturbed))
    print(percentiles("all, from the first save to the last", load.records))
    ratio = quantile([record.ms for record in disturbed], 0.99) / quantile([record.ms for record in undisturbed], 0.99)
    print(f"\n| figure | measured | goal |\n|---|---|---|\n| failed | {len(verdict.failed) + verdict.late} of {len(alone.records) + len(load.records)} | 0 |")
    print(f"| mixed generations in an answer | {verdict.mixed} | 0 |")
    print(f"| vectors that are not their generation's (cosine at most {SAME}) | {verdict.wrong} | 0 |")
    share = busy(undisturbed)
    said = f"{ratio:.2f}, which says nothing: this rate is more than the worker can do" if share > BUSY else f"{ratio:.2f}"
    print(f"| p99 during swaps / undisturbed | {said} | at most 5 |")
    print(f"\nFrom a save to the new model's first answer: {statistics.median(took):.0f} ms (median), {max(took):.0f} ms (longest).")
    print(f"The worker computed {share:.0%} of the time undisturbed and {busy(load.records):.0%} with the swaps.")
    print(f"Least cosine with the reference: {verdict.least:.7f}; between the two nearest generations it is {references.nearest_two():.5f}.")
    report(verdict.failed)
    return not (verdict.failed or verdict.late or verdict.mixed or verdict.wrong), share


def report(failed: list[str]) -> None:
    for message in sorted(set(failed)):
        print(f"- {failed.count(message)} times: {message}")


def wait_for_swap(server: Server, state: tuple[str, str | None]) -> dict:
    model, precision = state
    # Each precision is a model of its own in the home, whose name carries it; the bundled one's does not.
    name = model if precision in (None, "int8") else f"{model}-{precision}"
    return server.ready(name)


# ------------------------------------------------------------------------------------------------- the larger shape


def large_models(arguments: argparse.Namespace) -> dict[str, Path]:
    """The shape of Qwen3-Embedding-0.6B with random weights, in 8 and in 4 bits."""
    work = arguments.cache / "bench-convert"
    made = {}
    for precision, option in (("int8", "--int8"), ("4bit", "--k4bit")):
        target = work / "models" / f"{arguments.large.replace(':', '-')}-{precision}" / "model.gguf"
        if not target.is_file():
            converted(arguments.embedbar, random_qwen3(arguments.generator, work, arguments.large), target, option)
        made[f"random-{precision}"] = target
    return made


def draining(arguments: argparse.Namespace) -> bool:
    models = large_models(arguments)
    sizes = {name: path.stat().st_size for name, path in models.items()}
    # The reserve, which is a quarter of so little, and the larger model with room to work, but not both models. The bundled one,
    # and what others use.
    limit, others = int(0.45 * GIB) + sum(sizes.values()), GIB // 10
    print(f"\n## Drain first: {arguments.large} shape, two precisions that do not fit at once\n", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="embedbar-bench-"))
    shown = ShownLimit(folder / "limit", limit, others)
    if refusal := shown.refusal():
        print(f"Not measured: this machine cannot show a server a smaller machine: {refusal}.")
        return True
    try:
        return drained(arguments, models, shown, limit)
    finally:
        shutil.rmtree(folder)


def drained(arguments: argparse.Namespace, models: dict[str, Path], shown: ShownLimit, limit: int) -> bool:
    # Two texts are enough to show a mixed answer, and the queue is soon empty again.
    all_requests, references, names = requests([2]), References(), list(models)
    ended = threading.Event()
    with Server(arguments.embedbar, models=models, limit=shown) as server:
        watcher = threading.Thread(target=keep_watching, args=(shown, server.process.pid, ended), daemon=True)
        watcher.start()
        server.ready()
        # It is approved with the variable that decides later.
        file = server.follow(env_of("all-MiniLM-L6-v2", None, -2))
        warm = {}
        for name in names:
            save(file, env_of(name, None, -1), in_place=False)
            warm[name] = server.ready(name)["load_ms"]
            references.take(server, all_requests)
        before = manners(server)["DrainFirst"]
        load = Load(server, all_requests, arguments.drain_rate, arguments.callers)
        windows, loads = [], []
        with load:
            time.sleep(5)
            for number in range(arguments.drains):
                name = names[number % len(names)]
                windows.append(swap_once(load, file, env_of(name, None, number), number))
                loads.append(server.ready(name)["load_ms"])
                time.sleep(arguments.pause)
                # A swap's wait is not to count what the one before it has left in the queue.
                until("the queue is empty again", lambda: load.behind() == 0 or None)
        drains = manners(server)["DrainFirst"] - before
        ended.set()
        watcher.join()
    verdict = judge(load.records, references, all_requests)
    waits = [max((record.ms for record in within(load.records, [window])), default=0.0) for window in windows]
    rest = [record for record in load.records if record not in within(load.records, windows)]
    print(f"A limit of {limit / GIB:.2f} GB is shown to the server and not enforced; {arguments.drain_rate:g} requests a second.\n")
    print("| swap | to | load and self-test ms | longest wait of a query ms | wait / load | from the save to the first answer ms |")
    print("|---|---|---|---|---|---|")
    for number, (window, load_ms, wait) in enumerate(zip(windows, loads, waits, strict=True)):
        took = (window.closed - window.opened) * 1e3
        print(f"| {number + 1} | {names[number % len(names)]} | {load_ms:.0f} | {wait:.0f} | {wait / load_ms:.2f} | {took:.0f} |")
    print(f"\n| figure | measured | goal |\n|---|---|---|\n| swaps that drained first | {drains} of {len(windows)} | {len(windows)} |")
    print(f"| failed | {len(verdict.failed)} of {len(load.records)} | 0 |\n| mixed or wrong | {verdict.mixed + verdict.wrong} | 0 |")
    print(f"| refused past the deadline, 503 with Retry-After | {verdict.late} | counted |")
    print(f"\nOutside of the swaps a request took {statistics.median(record.ms for record in rest):.0f} ms (median);", end=" ")
    print(f"the worker computed {busy(load.records):.0%} of the time.", flush=True)
    report(verdict.failed)
    return not (verdict.failed or verdict.mixed or verdict.wrong)


def keep_watching(shown: ShownLimit, pid: int, ended: threading.Event) -> None:
    while not ended.wait(0.1):
        shown.watch(pid)


def first_queries(arguments: argparse.Namespace) -> bool:
    print("\n## The first query after `Ready`\n")
    print("| model | listening | ready | first answer | first query ms | warm query ms (median) | first / warm | goal |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    bundled = {"all-MiniLM-L6-v2 INT8": None}
    for title, path in (bundled | large_models(arguments)).items():
        with tempfile.TemporaryDirectory() as home:
            # The first load on a machine makes what the later ones map; it is left out.
            runs = [first_and_warm(arguments.embedbar, path, arguments.warm, Path(home)) for _ in range(arguments.starts + 1)][1:]
        listening, ready, answered, first, warm = (
            statistics.median(getattr(run, part) for run in runs) for part in ("listening", "ready", "answered", "first", "warm")
        )
        name = f"{arguments.large} shape, {title.removeprefix('random-')}" if path else title
        print(
            f"| {name} | {listening:.0f} ms | {ready:.0f} ms | {answered:.0f} ms | {first:.1f} | {warm:.1f} | {first / warm:.2f} | at most 1.5 |",
            flush=True,
        )
    print(f"\nMilliseconds since the process was started; medians of {arguments.starts} starts after the first one, the files in the page cache.")
    print("`embedbar latency --cold` measures the same for a search, in the program that is running.")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--embedbar", type=Path, required=True, help="the release binary")
    parser.add_argument("--generator", type=Path, required=True, help="the example random_checkpoint, built")
    parser.add_argument("--cache", type=Path, required=True, help="where checkpoints and converted models are kept: 3 GB")
    parser.add_argument("--only", choices=["overlap", "drain", "first"], help="one part; all by default")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--texts", type=int, nargs="+", default=[2, 3], help="texts in a request, in turn")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the undisturbed run")
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between a swap and the next save")
    parser.add_argument("--callers", type=int, default=24, help="connections")
    parser.add_argument("--large", default="0.6b", help="the shape of the larger model: 0.6b, or 0.6b:6 for six of its layers")
    parser.add_argument("--drains", type=int, default=6, help="swaps of the larger model")
    parser.add_argument("--drain-rate", type=float, default=1.0, help="requests a second at the larger model")
    parser.add_argument("--starts", type=int, default=3, help="of the part `first`")
    parser.add_argument("--warm", type=int, default=15, help="warm queries after each start")
    arguments = parser.parse_args()
    parts = {"overlap": overlapping, "drain": draining, "first": first_queries}
    good = [part(arguments) for name, part in parts.items() if arguments.only in (None, name)]
    if not all(good):
        sys.exit("a query failed or an answer was not what it claimed: the lines above say which")


if __name__ == "__main__":
    main()
