"""The hub's own Python client on the fake hub: it downloads from it, it reads our cache, and we read its cache.

Usage: python real_client.py FAKE_HUB FETCH, two paths of example binaries; needs huggingface_hub. Not run by cargo.
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

CLIENT = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download("owner/name", **({"local_files_only": True} if sys.argv[1:] else {})))
"""


def main() -> None:
    fake_hub, fetch = sys.argv[1:3]
    hub = subprocess.Popen([fake_hub, "0", "5"], stdout=subprocess.PIPE, text=True)
    try:
        endpoint = hub.stdout.readline().strip()
        with tempfile.TemporaryDirectory() as folder:
            check(endpoint, fetch, pathlib.Path(folder))
    finally:
        hub.terminate()
        hub.wait()


def check(endpoint: str, fetch: str, folder: pathlib.Path) -> None:
    def run(command: list[str], cache: str, **variables: str) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / cache), "NO_PROXY": "127.0.0.1,localhost"}
        environment |= variables
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[0 if command[0] == fetch else -1]

    python = [sys.executable, "-c", CLIENT]
    theirs = run(python, "theirs")
    ours = run([fetch, "owner/name"], "ours")
    assert digests(theirs) == digests(ours) and len(digests(ours)) == 3, (digests(theirs), digests(ours))
    print("both download the same three files")
    print("links:", links(theirs) == links(ours), links(ours))
    assert run(python, "ours", HF_HUB_OFFLINE="1") == ours
    assert run(python + ["local"], "ours") == ours
    print("the Python client reads our cache offline")
    assert run([fetch, "owner/name"], "theirs", HF_HUB_OFFLINE="1") == theirs
    print("we read its cache offline")
    before = sorted((path, path.stat().st_mtime_ns) for path in pathlib.Path(theirs).rglob("*") if path.is_file())
    assert run([fetch, "owner/name"], "theirs") == theirs
    run(python, "ours")
    assert before == sorted((path, path.stat().st_mtime_ns) for path in pathlib.Path(theirs).rglob("*") if path.is_file())
    print("neither fetches again what the other has")


def digests(folder: str) -> dict[str, str]:
    root = pathlib.Path(folder)
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def links(folder: str) -> dict[str, str]:
    root = pathlib.Path(folder)
    return {str(path.relative_to(root)): os.readlink(path) for path in root.rglob("*") if path.is_symlink()}


if __name__ == "__main__":
    main()
