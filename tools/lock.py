"""Pins what tools/setup.sh installs: writes into tools/constraints*.txt every package that the requirements lead to, with
the SHA-256 of each wheel that is accepted. Usage: .venv/bin/python tools/lock.py

A version that stands in a file stays; to change one, change its number and run this. Hashes of the same version stay, too:
those of another machine's or index's wheels are added by running this there, or here with pip's settings for that index."""
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.utils import canonicalize_name

TOOLS = Path(__file__).resolve().parent
PIN = re.compile(r"^([\w.-]+)==(\S+)((?: \\\n +--hash=sha256:[0-9a-f]{64})*)$", re.MULTILINE)
#: What PyTorch's build for NVIDIA asks for, and others do not.
CUDA = re.compile(r"cuda-|nvidia-|triton$")
#: pip takes these words for it, and not the version of the library that they end in.
ARM = [word for glibc in range(36, 16, -1) for word in ("--platform", f"manylinux_2_{glibc}_aarch64")] + [
    "--platform", "manylinux2014_aarch64", "--python-version", "3.11", "--target", "/nonexistent", "--no-deps"]


def pins(file):
    """{name: (spelling, version, hashes)}"""
    found = PIN.findall((TOOLS / file).read_text())
    return {canonicalize_name(name): (name, version, set(re.findall("[0-9a-f]{64}", hashes)))
            for name, version, hashes in found}


def chosen(known, *words):
    """What pip would install here: like pins()."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as versions:
        versions.write("".join(f"{name}=={version}\n" for name, version, _ in known.values()))
        versions.flush()
        done = subprocess.run([sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet",
                               "--only-binary", ":all:", "--report", "-", "--constraint", versions.name, *words],
                              stdout=subprocess.PIPE, cwd=TOOLS, check=False)
    if done.returncode != 0:
        sys.exit(f"lock: pip finds no wheels for {' '.join(words)}")
    return {canonicalize_name(part["metadata"]["name"]): (
                part["metadata"]["name"], part["metadata"]["version"].partition("+")[0],
                {part["download_info"]["archive_info"]["hashes"]["sha256"]})
            for part in json.loads(done.stdout)["install"]}


def write(file, found):
    known = pins(file)
    comments = "".join(re.findall(r"^#.*\n", (TOOLS / file).read_text(), re.MULTILINE))
    lines = []
    for key, (name, version, hashes) in sorted(found.items()):
        if key in known and known[key][1] == version:
            hashes = hashes | known[key][2]
        lines.append(" \\\n".join([f"{name}=={version}", *(f"    --hash=sha256:{digest}" for digest in sorted(hashes))]) + "\n")
    (TOOLS / file).write_text(comments + "".join(lines))


def on_arm_too(found):
    other = chosen({}, *ARM, *(f"{name}=={version}" for name, version, _ in found.values()))
    return {key: (name, version, hashes | other[key][2]) for key, (name, version, hashes) in found.items()}


known = pins("constraints.txt") | pins("constraints-cuda.txt")
own = on_arm_too(chosen(known, "-r", "requirements.txt") | chosen(known, "--no-deps", "-r", "requirements-no-deps.txt"))
cuda = {key: part for key, part in own.items() if CUDA.match(key)}
write("constraints.txt", {key: part for key, part in own.items() if key not in cuda})
if cuda:
    write("constraints-cuda.txt", cuda)
write("constraints-clients.txt", chosen(pins("constraints-clients.txt"), "-r", "requirements-clients.txt"))
