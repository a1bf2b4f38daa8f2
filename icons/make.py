#!/usr/bin/env python3
"""Makes every icon file from the SVGs in this folder: `python3 icons/make.py`, or `--check` to compare with what is there.

Needs `rsvg-convert` (Debian: librsvg2-bin, Homebrew: librsvg) and nothing but Python's standard library. The same librsvg
gives the same bytes; another version may differ in a few pixels of antialiasing.
"""

import argparse
import pathlib
import struct
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TRAY_STATES = ["normal", "warn", "critical", "unknown", "paused"]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
RGBA_8_BIT = (8, 6)

# Type codes of PNG entries and the pixels they hold.
ICNS_ENTRIES = [
    (b"ic11", 32),
    (b"ic12", 64),
    (b"ic07", 128),
    (b"ic13", 256),
    (b"ic08", 256),
    (b"ic14", 512),
    (b"ic09", 512),
    (b"ic10", 1024),
]
ICO_SIZES = [16, 24, 32, 48, 64, 256]


def render(svg: pathlib.Path, pixels: int) -> bytes:
    """The drawing as a square PNG, 8 bits a channel, with alpha."""
    command = ["rsvg-convert", "--format=png", f"--width={pixels}", f"--height={pixels}", str(svg)]
    png = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26])
    if png[:8] != PNG_SIGNATURE or (width, height) != (pixels, pixels) or (depth, colour) != RGBA_8_BIT:
        raise SystemExit(f"{svg.name}: rsvg-convert did not give an 8-bit RGBA PNG of {pixels} pixels")
    return png


def icns(images: dict[int, bytes]) -> bytes:
    body = b"".join(kind + struct.pack(">I", len(images[size]) + 8) + images[size] for kind, size in ICNS_ENTRIES)
    return b"icns" + struct.pack(">I", len(body) + 8) + body


def ico(images: dict[int, bytes]) -> bytes:
    offset = 6 + 16 * len(ICO_SIZES)
    directory = struct.pack("<HHH", 0, 1, len(ICO_SIZES))
    for size in ICO_SIZES:
        side = size % 256  # 256 is written as 0
        directory += struct.pack("<BBBBHHII", side, side, 0, 0, 1, 32, len(images[size]), offset)
        offset += len(images[size])
    return directory + b"".join(images[size] for size in ICO_SIZES)


def files() -> dict[str, bytes]:
    """Every file by its name in this folder."""
    master = HERE / "embedbar.svg"
    sizes = {size for _, size in ICNS_ENTRIES} | set(ICO_SIZES)
    images = {size: render(master, size) for size in sorted(sizes)}
    made = {
        "32x32.png": images[32],
        "128x128.png": images[128],
        "128x128@2x.png": images[256],
        "icon.png": images[512],
        "icon.icns": icns(images),
        "icon.ico": ico(images),
    }
    for state in TRAY_STATES:
        drawing = HERE / "tray" / f"{state}.svg"
        # The plain name is what the shell embeds: 44 pixels, which macOS shows as 22 points on a Retina display.
        made[f"tray/{state}.png"] = render(drawing, 44)
        made[f"tray/{state}-22.png"] = render(drawing, 22)
    return made


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
    check = arguments.parse_args().check
    different = []
    for name, content in files().items():
        path = HERE / name
        if check:
            if not path.exists() or path.read_bytes() != content:
                different.append(name)
        else:
            path.write_bytes(content)
            print(f"{name}: {len(content)} bytes")
    if different:
        sys.exit(f"not what make.py makes: {', '.join(different)}")


if __name__ == "__main__":
    main()
