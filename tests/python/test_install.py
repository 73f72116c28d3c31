"""`pip install` makes a wheel that stands by itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import ROOT


def test_an_installed_package_runs_without_the_build_folder(tmp_path):
    build = Path(os.environ.get("RECAST_BUILD", ROOT / "build" / "dev"))
    if not (build / "CMakeCache.txt").exists():
        pytest.skip("no build folder: set RECAST_BUILD")
    pytest.importorskip("setuptools")
    installed = tmp_path / "site"
    environment = {**os.environ, "RECAST_BUILD": str(build), "PYTHONPATH": ""}
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                    "--no-build-isolation", "--no-index", "--target", installed, ROOT], check=True, env=environment)
    files = {path.name for path in (installed / "recast").iterdir()}
    assert {"py.typed", "plugs.pyi", "_core.pyi", "librecast.so.0.1"} <= files
    use = ("import recast; from pathlib import Path; maps = Path('/proc/self/maps').read_text(); "
           "assert str(Path(recast.__file__).parent / 'librecast.so.0.1') in maps, maps; "
           "print(recast.versions()['torch'], len(recast.methods()))")
    done = subprocess.run([sys.executable, "-c", use], capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": str(installed)})
    assert done.returncode == 0, done.stderr
    version, plugs = done.stdout.split()
    assert torch.__version__.startswith(version) and int(plugs) > 5
    metadata = next(installed.glob("recast-*.dist-info")) / "METADATA"
    assert f"Requires-Dist: torch=={torch.__version__.split('+')[0]}" in metadata.read_text()


@pytest.mark.parametrize("core, said", [
    ("raise ImportError('undefined symbol: _ZN2at')", f"cannot be loaded with PyTorch {torch.__version__}"),
    ("torch_version = '1.0.0'", f"built with PyTorch 1.0.0 and finds {torch.__version__}"),
])
def test_another_pytorch_is_named(tmp_path, core, said):
    package = tmp_path / "recast"
    package.mkdir()
    for file in (ROOT / "python" / "recast").glob("*.py"):
        shutil.copy(file, package)
    (package / "_core.py").write_text(core + "\n")
    done = subprocess.run([sys.executable, "-c", "import recast"], capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode != 0 and said in done.stderr and "pip install" in done.stderr, done.stderr
