#!/usr/bin/env python3
"""Prepares two of the demo's three tasks as class folders; the third, Fashion-MNIST, is read where Debian puts it.

  OUT/digits/0 .. 9          scikit-learn's load_digits: 1,797 handwritten digits, grey, 8 x 8, as PNG
  OUT/drawings/CATEGORY      clip art of Debian's openclipart-png, as links; PNG, most with alpha

Of the clip art these are left out: files with the same bytes as an earlier one, and files of more than 4 million
pixels (a few have 600 million). The same input gives the same folders; what is there already is kept.
Usage: demo_data.py OUT [--clip-art DIR]
"""

import argparse
import hashlib
import os
import shutil
import struct
import sys
from pathlib import Path

CLIP_ART = Path("/usr/share/openclipart/png")
# Categories whose pictures show one kind of thing, with 60 of them or more.
CATEGORIES = {
    "arrows": "shapes/arrows",
    "clothing": "people/clothing",
    "desserts": "food/desserts",
    "flags": "signs_and_symbols/flags",
    "fruit": "food/fruit",
    "mammals": "animals/mammals",
    "music": "recreation/music",
    "vehicles": "transportation/vehicles",
}
MOST_PER_CATEGORY = 120
MOST_PIXELS = 4_000_000


def png_size(content):
    """(width, height) from the header; (0, 0) if it is no PNG."""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 24:
        return 0, 0
    return struct.unpack(">II", content[16:24])


def write_digits(folder):
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for index, (grey, label) in enumerate(zip(digits.images, digits.target)):
        (folder / str(label)).mkdir(exist_ok=True)
        pixels = np.round(grey * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / str(label) / f"{index:04}.png")


def write_drawings(folder, clip_art):
    if not clip_art.is_dir():
        sys.exit(f"demo_data: {clip_art} is missing; run tools/setup.sh, which installs openclipart-png")
    seen = set()
    for category, source in CATEGORIES.items():
        (folder / category).mkdir()
        kept = []
        for path in sorted((clip_art / source).rglob("*.png")):
            content = path.read_bytes()
            digest, (width, height) = hashlib.sha256(content).digest(), png_size(content)
            if digest not in seen and 0 < width * height <= MOST_PIXELS:
                seen.add(digest)
                kept.append(path)
        # Evenly spaced where there are too many: neighbours in the list are often variants of one drawing.
        for index in range(count := min(len(kept), MOST_PER_CATEGORY)):
            path = kept[index * len(kept) // count]
            name = "_".join(path.relative_to(clip_art / source).parts)
            (folder / category / name).symlink_to(path)


def prepare(folder, write, *arguments):
    """Writes beside the final place and renames, so that a folder is whole or absent."""
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        partial.mkdir(parents=True)
        try:
            write(partial, *arguments)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial)
            raise
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    counts = ", ".join(f"{path.name} {sum(1 for _ in path.iterdir())}" for path in classes)
    print(f"{folder}: {len(classes)} classes: {counts}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--clip-art", type=Path, default=CLIP_ART, metavar="DIR")
    options = parser.parse_args()
    prepare(options.out / "digits", write_digits)
    prepare(options.out / "drawings", write_drawings, options.clip_art)


if __name__ == "__main__":
    main()
