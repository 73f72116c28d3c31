"""The notebooks run from the first cell to the last, at toy sizes."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def executed():
    """All of them, two kernels at a time: name -> the notebook with its outputs, or what went wrong."""
    for module in ("nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(module, reason=f"the Python module {module} is missing")
    sys.path.insert(0, str(ROOT / "notebooks"))
    from execute import execute
    path = os.pathsep.join(filter(None, sys.path))
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setenv("RECAST_SHORT", "1")
        patch.setenv("PYTHONPATH", path)
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        running = {notebook.name: pool.submit(execute, notebook, 120) for notebook in NOTEBOOKS}
        return {name: (future.exception() or future.result()) for name, future in running.items()}


@pytest.mark.parametrize("name", [notebook.name for notebook in NOTEBOOKS])
def test_a_notebook_runs(executed, name):
    result = executed[name]
    if isinstance(result, Exception):
        raise result
    cells = [cell for cell in result.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    plots = [output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]
    assert plots, "a notebook without a plot"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_committed_notebook_keeps_its_outputs(notebook):
    import json
    cells = [cell for cell in json.loads(Path(notebook).read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells and all(cell["execution_count"] for cell in cells)
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)
    assert not any(place in Path(notebook).read_text() for place in (str(ROOT), "/tmp/", "/home/", "site-packages"))


def test_the_five_notebooks_are_there():
    assert [notebook.stem for notebook in NOTEBOOKS] == [
        "classification_resnet", "classification_vit", "reconstruction_encoder", "reconstruction_resnet",
        "reconstruction_vit"]
