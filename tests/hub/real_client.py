"""The hub's own Python client on the fake hub: it downloads from it, it reads our cache, and we read its cache.

Usage: python real_client.py FAKE_HUB FETCH, two paths of example binaries of the crate `hub`; needs huggingface_hub. The Rust test
`real_client` starts it. Prints a line for each thing that is so, and ends with the first that is not.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MEBIBYTES = 24
"""Of the large file: more than the client reads at once."""

DOWNLOAD = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download("owner/name", **({"allow_patterns": sys.argv[1:]} if sys.argv[1:] else {})))
"""
VERIFY = """
from huggingface_hub import HfApi, get_cached_repo_tree, scan_cache_dir
result = HfApi().verify_repo_checksums("owner/name")
tree = {file.path: file.size for file in get_cached_repo_tree("owner/name")}
cache = scan_cache_dir()
print(result.checked_count, len(result.mismatches), len(result.missing_paths), len(result.extra_paths), len(tree),
      len(cache.warnings), len(cache.repos))
"""
LACKS = """
from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache
print(try_to_load_from_cache("owner/name", "adapter_config.json") is _CACHED_NO_EXIST,
      try_to_load_from_cache("owner/name", "model.safetensors") is None)
"""
INCOMPLETE = """
from huggingface_hub import snapshot_download
from huggingface_hub.errors import IncompleteSnapshotError
try:
    print(snapshot_download("owner/name"))
except IncompleteSnapshotError:
    print("incomplete")
"""
PUBLISH = """
import sys
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.utils._shared_blobs import publish_blob_to_shared_store
blob, name, size = sys.argv[1:]
print(publish_blob_to_shared_store(blob_path=blob, xet_hash=name, cache_dir=HF_HUB_CACHE, expected_size=int(size)))
"""
SETTINGS = """
from huggingface_hub import constants, get_token
token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
print(constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE, token is not None, constants.ENDPOINT, sep="|")
"""


def main() -> None:
    fake_hub, fetch = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder).resolve()
        settings(Tried("http://127.0.0.1:9", fetch, root / "settings"))
        with hub(fake_hub) as endpoint:
            plain(Tried(endpoint, fetch, root / "plain"))
        with hub(fake_hub, "xet") as endpoint:
            shared(Tried(endpoint, fetch, root / "shared"))


@contextlib.contextmanager
def hub(program: str, *options: str):
    process = subprocess.Popen([program, "0", str(MEBIBYTES), *options], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


class Tried:
    """One hub, the two clients, and a folder for their caches."""

    def __init__(self, endpoint: str, fetch: str, folder: pathlib.Path) -> None:
        self.endpoint, self.fetch_program, self.folder = endpoint, fetch, folder
        folder.mkdir()

    def run(self, command: list[str], home: str, **variables: str) -> list[str]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_", "XDG_")) and "proxy" not in name.lower()
        }
        environment |= {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(self.folder / home), "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
        environment |= {"HOME": str(self.folder), "NO_PROXY": "127.0.0.1,localhost", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        environment |= variables
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip().splitlines()

    def python(self, home: str, code: str, *arguments: str, **variables: str) -> str:
        return self.run([sys.executable, "-c", code, *arguments], home, **variables)[-1]

    def fetch(self, home: str, *patterns: str, **variables: str) -> list[str]:
        return self.run([self.fetch_program, "owner/name", *patterns], home, **variables)

    def served(self) -> int:
        """Bytes of files that the hub has sent so far."""
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self.endpoint}/served") as answer:
            return int(answer.read())

    def repository(self, home: str) -> pathlib.Path:
        return self.folder / home / "hub" / "models--owner--name"


def plain(tried: Tried) -> None:
    theirs = tried.python("theirs", DOWNLOAD)
    size = sum(path.stat().st_size for path in pathlib.Path(theirs).rglob("*") if path.is_file())
    assert size > MEBIBYTES << 20 and tried.served() == size, (size, tried.served())
    ours = tried.fetch("ours")[0]
    assert tried.served() == 2 * size
    assert digests(theirs) == digests(ours) and len(digests(ours)) == 3, (digests(theirs), digests(ours))
    print("both download the same three files, each byte once")
    assert links(theirs) == links(ours) and len(links(ours)) == 3, (links(theirs), links(ours))
    trees = [json.loads((tried.repository(home) / "trees" / f"{COMMIT}.json").read_text()) for home in ("theirs", "ours")]
    assert trees[0] == trees[1] and len(trees[0]["files"]) == 3, trees
    for name in ["refs/main", "../CACHEDIR.TAG"]:
        first = [(tried.repository(home) / name).read_text().splitlines()[0] for home in ("theirs", "ours")]
        assert first[0] == first[1], first
    print("with the same links, the same listing, the same ref and the same tag")
    assert tried.python("ours", DOWNLOAD, HF_HUB_OFFLINE="1") == ours
    assert tried.python("ours", VERIFY) == "3 0 0 0 3 0 1", tried.python("ours", VERIFY)
    print("the Python client reads our cache offline, and verifies it without a complaint")
    assert tried.fetch("theirs", HF_HUB_OFFLINE="1")[0] == theirs
    print("we read its cache offline")
    before = times(theirs) + times(ours)
    served = tried.served()
    assert tried.fetch("theirs")[0] == theirs and tried.python("ours", DOWNLOAD) == ours
    assert times(theirs) + times(ours) == before and tried.served() == served
    print("neither fetches again what the other has")
    for begins, goes_on in [("fetch", "python"), ("python", "fetch")]:
        home = f"{begins}-first"
        for who in (begins, goes_on):
            patterns = ["config.json", "adapter_config.json"] if who == begins else []
            result = tried.fetch(home, *patterns)[0] if who == "fetch" else tried.python(home, DOWNLOAD, *patterns)
            if (who, begins) == ("fetch", "fetch"):
                assert tried.python(home, LACKS) == "True True"
                assert tried.python(home, INCOMPLETE, HF_HUB_OFFLINE="1") == "incomplete"
                assert tried.python(home, DOWNLOAD, "config.json", HF_HUB_OFFLINE="1") == result
                print("what we left out, and what the hub does not have, the Python client knows")
        assert tried.served() == served + size, (begins, tried.served() - served, size)
        assert digests(result) == digests(ours)
        served += size
    print("what one began the other completes, each byte once")


def shared(tried: Tried) -> None:
    """The store that all repositories share. What Xet brings there this puts there: the fake hub does not speak Xet."""
    theirs = tried.python("theirs", DOWNLOAD, HF_HUB_DISABLE_XET="1")
    before = digests(theirs)
    model = pathlib.Path(theirs) / "model.safetensors"
    blob = tried.repository("theirs") / "blobs" / model.readlink().name
    size = model.stat().st_size
    tree = json.loads((tried.repository("theirs") / "trees" / f"{COMMIT}.json").read_text())
    name = tree["files"]["model.safetensors"]["xet_hash"]
    assert tried.python("theirs", PUBLISH, str(blob), name, str(size)) == "True"
    assert blob.is_symlink() and blob.resolve().name == name and digests(theirs) == before
    assert tried.fetch("theirs", HF_HUB_OFFLINE="1")[0] == theirs
    served = tried.served()
    assert tried.fetch("theirs")[1].startswith("0 bytes") and tried.served() == served
    print("we read its cache through the store for all repositories, two links deep")
    # As another repository with the same file would find it.
    shutil.rmtree(tried.repository("theirs"))
    ours = tried.fetch("theirs")[0]
    assert digests(ours) == before
    small = sum(path.stat().st_size for path in pathlib.Path(ours).rglob("*.json"))
    assert tried.served() == served + small, tried.served() - served
    stored = tried.folder / "theirs" / "hub" / "blobs" / name[:2] / name
    assert blob.is_file() and not blob.is_symlink() and blob.samefile(stored)
    assert tried.python("theirs", DOWNLOAD, HF_HUB_OFFLINE="1") == ours
    print("what the store has we do not fetch")


def settings(tried: Tried) -> None:
    """The variables mean the same to both."""
    (tried.folder / "token").write_text("hf_file\n")
    token = str(tried.folder / "token")
    cases: list[dict[str, str]] = [
        {},
        {"HF_HOME": "~/hf"},
        {"HF_HOME": "$HOME/${WHERE}/x$", "WHERE": "there"},
        {"HF_HUB_CACHE": "$HOME/c$UNKNOWN/${HOME"},
        {"HF_HUB_CACHE": "/a", "HUGGINGFACE_HUB_CACHE": "/b"},
        {"HUGGINGFACE_HUB_CACHE": "~/b"},
        {"HF_TOKEN_PATH": "~/token"},
        {"HF_TOKEN_PATH": token, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"},
        {"HF_TOKEN": "hf_x", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "true"},
        {"HF_TOKEN": " ", "HF_TOKEN_PATH": "$HOME/token"},
        {"HUGGING_FACE_HUB_TOKEN": "hf_old", "HF_TOKEN_PATH": "/nowhere/token"},
        {"HF_HUB_OFFLINE": "on"},
        {"TRANSFORMERS_OFFLINE": "1", "HF_HUB_OFFLINE": "0"},
        {"HF_ENDPOINT": "https://mirror.example/hub/"},
    ]
    for case in cases:
        theirs = tried.python("home", SETTINGS, **case)
        ours = tried.run([tried.fetch_program, "--settings"], "home", **case)[-1]
        assert theirs == ours, (case, theirs, ours)
    bare = {"HF_HOME": "", "XDG_CACHE_HOME": "$HOME/.xdg"}
    assert tried.run([tried.fetch_program, "--settings"], "home", **bare)[-1].startswith(f"{tried.folder}/.xdg/huggingface/hub|")
    print(f"the variables mean the same to both in {len(cases)} cases")


def digests(folder: str) -> dict[str, str]:
    root = pathlib.Path(folder)
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def links(folder: str) -> dict[str, str]:
    root = pathlib.Path(folder)
    return {str(path.relative_to(root)): os.readlink(path) for path in root.rglob("*") if path.is_symlink()}


def times(folder: str) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in pathlib.Path(folder).rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
