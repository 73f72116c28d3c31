#!/usr/bin/env python3
"""Runs notebooks from the first cell to the last, each in a kernel and a temporary folder of its own.

Usage: execute.py [NAME.ipynb ...]     (default: all beside this file)
The outputs are kept in the files. With RECAST_SHORT=1 in the environment the notebooks take toy sizes, in seconds, and
the files are left alone: that is how the tests run them. Status 1, and the cell's error, where one fails.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def execute(path, timeout_s=3600):
    """Runs a notebook and returns it with its outputs. Raises nbclient's CellExecutionError."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=timeout_s, kernel_name="python3", resources={"metadata": {"path": str(HERE)}},
                   record_timing=False).execute()
    return notebook


def main():
    import nbformat

    names = [Path(name) for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb"))
    short = os.environ.get("RECAST_SHORT") == "1"
    for path in names:
        print(path.name, flush=True)
        notebook = execute(path)
        notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
        notebook.metadata["language_info"] = {"name": "python"}
        if not short:
            nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
