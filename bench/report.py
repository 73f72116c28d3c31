"""What every bench prints and writes: aligned tables, and a JSON document that says where and of what it was
measured."""

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "THP_MEM_ALLOC_ENABLE")


def git(*words):
    done = subprocess.run(["git", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip()


def provenance(command, machine, packages):
    """When, of which commit, on what, with what."""
    return {"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "command": " ".join([command, *sys.argv[1:]]),
            "commit": git("rev-parse", "HEAD"),
            "changed_files": len(git("status", "--porcelain", "-uno").splitlines()),
            "machine": machine, "environment": {name: os.environ.get(name) for name in VARIABLES},
            "versions": {"python": platform.python_version(), "recast": machine.get("recast"),
                         **{name: version(name) for name in packages}}}


def write_json(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def number(value):
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def aligned(lines):
    """Rows of texts as a table, a heading first."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines)


def machine_text(machine):
    return f"{machine.get('cpu')}, {machine.get('isa')}, {' '.join(machine.get('flags', []))}"
