"""A running `embedbar serve` for the benchmarks: its home, its address, its commands, the `.env` that it follows, its log.

Not started by itself.
"""

import http.client
import json
import math
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 180
"""After which an answer that has not come is a failure of the benchmark, not a figure of it."""
IDLE_SECONDS = 4
"""After which a connection is opened anew: the gateway closes those that say nothing for long, as every HTTP server does."""

WORDS = """river stone paper window market garden letter engine winter summer bridge forest kitchen teacher memory signal
copper silver harbour village morning evening question answer pattern measure journey silence thunder island mountain""".split()
"""What texts are made of; about a token each in every tokenizer."""


@dataclass
class Reply:
    """What came back: the body read as JSON where it was JSON."""

    status: int
    body: dict
    retry_after: str | None


class Client:
    """One connection that is kept open. For one thread."""

    def __init__(self, port: int, token: str) -> None:
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        self.used = time.monotonic()

    def send(self, command: str, parameters: dict) -> Reply:
        """One command; raises only where there is no HTTP answer."""
        if time.monotonic() - self.used > IDLE_SECONDS:
            self.connection.close()
        try:
            self.connection.request("POST", f"/api/call/{command}", json.dumps(parameters).encode(), self.headers)
            answer = self.connection.getresponse()
            text = answer.read()
        except BaseException:
            self.connection.close()  # the next request opens another one
            raise
        self.used = time.monotonic()
        try:
            body = json.loads(text)
        except ValueError:
            body = {"message": text.decode(errors="replace")}
        return Reply(answer.status, body, answer.getheader("Retry-After"))

    def call(self, command: str, parameters: dict | None = None) -> dict:
        """A command that must succeed."""
        reply = self.send(command, parameters or {})
        if reply.status != 200:
            raise SystemExit(f"`{command}` failed with {reply.status}: {reply.body.get('message')}")
        return reply.body


class Server:
    """`embedbar serve` on a home of its own, from its start to the end of the `with`."""

    def __init__(
        self,
        embedbar: Path,
        *arguments: str,
        models: dict[str, Path] | None = None,
        limit: "ShownLimit | None" = None,
        kept: Path | None = None,
    ) -> None:
        """`models`: folders and `.gguf` files to put into the home under these names; they are linked, not copied. `kept`: a home
        that was there before and stays."""
        self.embedbar = embedbar
        self.folder = Path(tempfile.mkdtemp(prefix="embedbar-bench-"))
        self.home = kept or self.folder / "home"
        for name, source in (models or {}).items():
            install(self.home / "models" / name, name, source)
        command = [str(embedbar), "serve", "--port", "0", "--home", str(self.home), *arguments]
        self.spawned = time.monotonic()
        self.process = subprocess.Popen((limit.wrapping() if limit else []) + command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.listening = time.monotonic()
        if "ready at " not in line:
            self.process.kill()
            raise SystemExit(f"`embedbar serve` does not start: {line}")
        origin, token = line.strip().split("ready at ", 1)[1].split("/#token=")
        self.port, self.token = int(origin.rsplit(":", 1)[1]), token
        self.own = self.client()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self) -> Client:
        return Client(self.port, self.token)

    def snapshot(self) -> dict:
        return self.own.call("snapshot")

    def model(self) -> dict:
        """The model's state; `state` is `ready` where it answers."""
        return self.snapshot()["model"]

    def ready(self, model: str | None = None) -> dict:
        """Waits until a model answers, this one if it is named."""

        def answers() -> dict | None:
            state = self.model()
            if state["state"] == "failed":
                raise SystemExit(f"the model cannot be loaded: {state['failure']['message']}")
            return state if state["state"] == "ready" and model in (None, state["generation"]["model"]) else None

        return until(f"`{model or 'a model'}` is ready", answers)

    def follow(self, text: str) -> Path:
        """Writes a `.env`, follows and approves it."""
        file = self.folder / ".env"
        file.write_text(text)
        command = [str(self.embedbar), "env", "use", str(file), "--approve", "--json", "--home", str(self.home)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return file

    def log(self) -> str:
        """Everything that its log says so far."""
        return "".join(path.read_text(errors="replace") for path in sorted((self.home / "logs").iterdir()))


@dataclass
class Start:
    """A program's way to its first answer and on; milliseconds, the first three since the process was started."""

    listening: float
    ready: float
    answered: float
    first: float
    """The first query after `Ready`."""
    warm: float
    """The median of the queries after it."""
    footprint: int
    """The worker's, in bytes, as the program itself reads it."""
    resident: int


def first_and_warm(embedbar: Path, model: Path | None, warm_queries: int, kept: Path | None = None) -> Start:
    """Starts a server with this model, or the bundled one, and asks queries of ten words, one after the other. `kept`: its home."""
    with Server(embedbar, *(["--model", str(model)] if model else []), kept=kept) as server:
        server.ready()
        moments, times = [server.spawned, server.listening, time.monotonic()], []
        for number in range(1 + warm_queries):
            began = time.monotonic()
            server.own.call("embed", {"texts": [" ".join(WORDS[number % 7 :][:10])]})
            times.append((time.monotonic() - began) * 1e3)
            moments.append(time.monotonic())
        # The program takes a reading every second or two.
        time.sleep(3)
        memory = server.snapshot()["memory"]
        listening, ready, answered = ((moment - moments[0]) * 1e3 for moment in moments[1:4])
        footprint, whole = memory["worker_bytes"] or 0, memory["worker_resident_bytes"] or 0
        return Start(listening, ready, answered, times[0], statistics.median(times[1:]), footprint, whole)


def install(folder: Path, name: str, source: Path) -> None:
    """Puts a model into a home: what `embedbar convert` writes beside a `.gguf` (its tokenizer) comes along."""
    folder.mkdir(parents=True)
    if source.is_dir():
        for file in source.iterdir():
            (folder / file.name).symlink_to(file.resolve())
        return
    (folder / f"{name}.gguf").symlink_to(source.resolve())
    beside = source.parent / "tokenizer.json"
    if beside.is_file():
        (folder / beside.name).symlink_to(beside.resolve())


def save(file: Path, text: str, in_place: bool) -> None:
    """Saves as editors do: in place, or beside and renamed."""
    if in_place:
        file.write_text(text)
        return
    beside = file.with_suffix(".tmp")
    beside.write_text(text)
    beside.rename(file)


def until(what: str, question: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Asks every 10 ms until there is an answer that is not `None`."""
    deadline = time.monotonic() + seconds
    while (answer := question()) is None:
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: this did not come to pass within {seconds:.0f} s")
        time.sleep(0.01)
    return answer


def resident(pid: int) -> dict[str, int]:
    """Bytes of a process as Linux counts them: `Rss`, `Pss`, `Anonymous`; empty where it is gone or not ours."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return {}
    rows = (line.split() for line in lines)
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if row[0] in ("Rss:", "Pss:", "Anonymous:")}


def quantile(values: list[float], share: float) -> float:
    """The nearest rank."""
    return sorted(values)[max(math.ceil(len(values) * share) - 1, 0)]


class ShownLimit:
    """A memory limit that a server is shown and that the kernel does not enforce.

    Real control groups belong to whoever manages the machine. So the server gets a mount namespace of its own in which the
    files of the memory controller are ours: the limit, and what is used of it, which `watch` keeps at what the server and its
    workers really use, plus what `others` are said to use. Its planner then sees a small machine; nobody else sees anything.
    """

    MOUNTS = {"cgroup2": ("memory.max", "memory.current"), "cgroup": ("memory.limit_in_bytes", "memory.usage_in_bytes")}

    def __init__(self, folder: Path, limit: int, others: int) -> None:
        self.folder, self.others = folder, others
        self.points: list[str] = []
        folder.mkdir(parents=True)
        for line in read_or_nothing("/proc/self/mountinfo").splitlines():
            place, kind = line.split(" - ", 1)
            name, options = kind.split()[0], kind.split()[2].split(",")
            if name == "cgroup2" or (name == "cgroup" and "memory" in options):
                self.points.append(place.split()[4])
        for limit_file, _ in self.MOUNTS.values():
            (folder / limit_file).write_text(f"{limit}\n")
        self.use(others)

    def use(self, used: int) -> None:
        for _, usage_file in self.MOUNTS.values():
            fresh = self.folder / "fresh"
            fresh.write_text(f"{used}\n")
            fresh.rename(self.folder / usage_file)

    def watch(self, pid: int) -> None:
        """Takes the memory of a process and of its children into what is used."""
        own = 0
        for process in [pid, *children(pid)]:
            # Not `resident`: that has the kernel walk all pages, which a worker at work would feel.
            fields = read_or_nothing(f"/proc/{process}/statm").split()
            own += int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0
        self.use(self.others + own)

    def wrapping(self) -> list[str]:
        """What goes in front of a command that is to be shown the limit."""
        mounts = " && ".join(f'mount --bind "$0" "{point}"' for point in self.points)
        # Root needs no user namespace; for anybody else it is what allows the mount.
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        return ["unshare", *user, "--mount", "sh", "-c", f'{mounts} && exec "$@"', str(self.folder)]

    def refusal(self) -> str | None:
        """Why this machine does not allow it, if it does not."""
        if not self.points:
            return "no control groups for memory are mounted"
        try:
            name = next(iter(self.MOUNTS.values()))[0]
            probe = subprocess.run([*self.wrapping(), "cat", f"{self.points[0]}/{name}"], capture_output=True, text=True, check=False)
        except OSError as error:
            return f"`unshare` cannot be run: {error}"
        return None if probe.returncode == 0 else probe.stderr.strip() or "`unshare --mount` failed"


def children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task")
    found: list[int] = []
    try:
        for thread in threads.iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    except OSError:
        pass  # it has just ended
    return found


def read_or_nothing(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
