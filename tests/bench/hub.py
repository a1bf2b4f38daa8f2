"""A download from the hub beside curl: the same file from the same server on this machine to the same disk, turn by turn.

`cargo xtask bench -- hub` builds the release and starts this; it needs Python and curl alone. The server is the fake hub of the
tests, which sends a file of random bytes as the kernel has it. Ours asks for the listing, reserves the room, fetches ranges side by
side, hashes, syncs and verifies; curl follows one redirect and writes, and leaves the rest to the kernel. The second column is curl
and a sync of its file, for what is on the disk afterwards is what a download is for.

Prints Markdown. Exits with 1 where the median ratio misses the goal.
"""

import argparse
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

MB = 1e6
GOAL = 0.6
"""Of curl's rate."""
BLOCK = 1 << 24


def main() -> None:
    arguments = parse()
    arguments.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        root = Path(folder)
        size = arguments.megabytes * 10**6
        served = root / "served"
        write_noise(served, size)
        hub = subprocess.Popen([arguments.fake_hub, "0", served], stdout=subprocess.PIPE, text=True)
        try:
            endpoint = hub.stdout.readline().strip()
            turns = [turn(arguments.fetch, endpoint, root, size) for _ in range(arguments.turns)]
        finally:
            hub.terminate()
            hub.wait()
    show(turns, size)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--embedbar", help="not used")
    parser.add_argument("--fake-hub", type=Path, required=True)
    parser.add_argument("--fetch", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="on the disk that is measured")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=5)
    return parser.parse_args()


def write_noise(path: Path, size: int) -> None:
    source = random.Random(7)
    with path.open("wb") as file:
        for start in range(0, size, BLOCK):
            file.write(source.randbytes(min(BLOCK, size - start)))
        file.flush()
        os.fsync(file.fileno())


def turn(fetch: Path, endpoint: str, root: Path, size: int) -> tuple[float, float, float]:
    """Seconds of curl, of curl and a sync, and of ours."""
    taken = root / "curl"
    url = f"{endpoint}/owner/name/resolve/main/model.safetensors"
    settle()
    started = time.monotonic()
    subprocess.run(["curl", "--silent", "--show-error", "--fail", "--location", "--noproxy", "*", "-o", taken, url], check=True)
    curl = time.monotonic() - started
    with taken.open("rb") as file:
        os.fsync(file.fileno())
    synced = time.monotonic() - started
    assert taken.stat().st_size == size
    taken.unlink()
    home = root / "home"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_") and "proxy" not in name.lower()}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home)}
    settle()
    started = time.monotonic()
    subprocess.run([fetch, "owner/name", "model.safetensors"], env=environment, stdout=subprocess.DEVNULL, check=True)
    ours = time.monotonic() - started
    assert sum(path.stat().st_size for path in home.glob("hub/models--*/blobs/*")) == size
    shutil.rmtree(home)
    return curl, synced, ours


def settle() -> None:
    """What others have to write is written before the clock starts."""
    os.sync()
    time.sleep(1)


def show(turns: list[tuple[float, float, float]], size: int) -> None:
    def median(values: list[float]) -> float:
        return sorted(values)[len(values) // 2]

    def cell(seconds: float) -> str:
        return f"{seconds:.2f} s, {size / MB / seconds:.0f} MB/s"

    print("| turn | curl -o | curl -o and a sync | ours, hashed and synced | rate beside curl |")
    print("|---|---|---|---|---|")
    for number, (curl, synced, ours) in enumerate(turns, 1):
        print(f"| {number} | {cell(curl)} | {cell(synced)} | {cell(ours)} | {curl / ours:.2f} |")
    curl, synced, ours = (median([turn[column] for turn in turns]) for column in range(3))
    ratio = median([curl / ours for curl, _, ours in turns])
    print(f"| median | {cell(curl)} | {cell(synced)} | {cell(ours)} | {ratio:.2f} (goal: {GOAL}) |")
    raise SystemExit(0 if ratio >= GOAL else 1)


if __name__ == "__main__":
    main()
