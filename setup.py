"""Builds the Python package: CMake makes the extension module and librecast.so, setuptools puts them into the wheel.

    pip install --no-build-isolation .

Without isolation, since the library must be compiled against the PyTorch that it will run with. RECAST_BUILD names a
CMake build folder to use (made if it is not there; default: build/python), so that an existing build is not repeated.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext
from setuptools.extension import Extension

ROOT = Path(__file__).resolve().parent


def version():
    return re.search(r"project\(recast VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text()).group(1)


def find_torch():
    try:
        import torch
    except ImportError:
        sys.exit("recast is compiled against the PyTorch that it runs with, and none can be imported here. Install torch "
                 "and setuptools first, then: pip install --no-build-isolation .")
    return Path(torch.__file__).parent, torch.__version__.split("+")[0]


def jobs_that_fit():
    """As many compilers as there are cores and 1.5 GB of memory for each."""
    memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(os.cpu_count() or 1, int(memory / 1.5e9)))


class BuildWithCMake(build_ext):
    def build_extension(self, extension):
        target = Path(self.get_ext_fullpath(extension.name)).parent.resolve()
        build = Path(os.environ.get("RECAST_BUILD", ROOT / "build" / "python")).resolve()
        torch, _ = find_torch()
        if not (build / "CMakeCache.txt").exists():
            self.configure(build, torch)
        subprocess.run(["cmake", "--build", build, "--target", "recast_python", "-j", str(jobs_that_fit())], check=True)
        subprocess.run(["cmake", "--install", build, "--component", "python", "--prefix", target, "--strip"], check=True)
        self.replace_links(target)
        self.write_stubs(target, torch)

    def configure(self, build, torch):
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        subprocess.run(["cmake", "-S", ROOT, "-B", build, *generator, "-DCMAKE_BUILD_TYPE=Release",
                        f"-DRECAST_TORCH_DIR={torch}", f"-DPython_EXECUTABLE={sys.executable}",
                        "-DRECAST_PYTHON_REQUIRED=ON"], check=True)

    @staticmethod
    def replace_links(folder):
        """Wheels hold no links: the library goes by the name that programs ask for."""
        for link in [path for path in folder.iterdir() if path.is_symlink()]:
            library = link.resolve()
            link.unlink()
            library.rename(link)

    @staticmethod
    def write_stubs(folder, torch):
        # The modules around the extension lie elsewhere until the wheel is put together.
        with_package = folder / "stub-package" / "recast"
        shutil.copytree(ROOT / "python" / "recast", with_package)
        for binary in [*folder.glob("_core*.so"), *folder.glob("librecast.so*")]:
            (with_package / binary.name).symlink_to(binary)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(with_package.parent), str(torch.parent)])}
        made = subprocess.run([sys.executable, ROOT / "python" / "stubs" / "make_plug_stubs.py"], env=environment, check=True,
                              capture_output=True, text=True)
        shutil.rmtree(with_package.parent)
        (folder / "plugs.pyi").write_text(made.stdout)


class BinaryDistribution(Distribution):
    def has_ext_modules(self):
        return True


# libtorch keeps no binary interface between versions: the wheel is for the one that is here.
setup(version=version(), install_requires=[f"torch=={find_torch()[1]}"], distclass=BinaryDistribution,
      ext_modules=[Extension("recast._core", sources=[])], cmdclass={"build_ext": BuildWithCMake})
