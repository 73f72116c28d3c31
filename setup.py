"""Builds the Python package: CMake makes the extension module and librecast.so, setuptools puts them into the wheel.

    pip install .

The library is compiled against the PyTorch of the environment that pip installs into, which must be there before: also
where pip builds in isolation, which hides it from Python but not from us. RECAST_TORCH_DIR names another one's folder.
RECAST_BUILD names a CMake build folder to use (made if it is not there; default: build/python), so that an existing build
is not repeated.
"""

import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import setuptools
from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext
from setuptools.extension import Extension

ROOT = Path(__file__).resolve().parent
LEAST_SETUPTOOLS = 77  # as in pyproject.toml, which pip does not look at without isolation


def version():
    return re.search(r"project\(recast VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text()).group(1)


def check_setuptools():
    if int(setuptools.__version__.split(".")[0]) < LEAST_SETUPTOOLS:
        sys.exit(f"setuptools {setuptools.__version__} is too old to read pyproject.toml: pip install "
                 f"'setuptools>={LEAST_SETUPTOOLS}', or leave out --no-build-isolation")


def find_torch():
    """(folder, version) of PyTorch. It is not imported: in an isolated build what it needs is hidden."""
    chosen = os.environ.get("RECAST_TORCH_DIR")
    places = [*sys.path, sysconfig.get_path("platlib"), sysconfig.get_path("purelib"), site.getusersitepackages()]
    for folder in [Path(chosen)] if chosen else [Path(place) / "torch" for place in places]:
        if (folder / "version.py").exists() and (folder / "lib").is_dir():
            found = re.search(r"__version__ = ['\"]([^'\"+]+)", (folder / "version.py").read_text())
            return folder.resolve(), found.group(1)
    sys.exit(f"recast is compiled against the PyTorch that it runs with, and there is none in {chosen or sys.prefix}. "
             "Install torch there first, or name its folder in RECAST_TORCH_DIR; then: pip install .")


def runs(program):
    """Whether a program is there and starts: CMake's of PyPI does not in another environment than its own."""
    try:
        return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def jobs_that_fit():
    """As many compilers as there are cores and 1.5 GB of memory for each."""
    try:
        available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
        memory = int(available.group(1)) * 1024
    except (OSError, AttributeError):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    return max(1, min(os.cpu_count() or 1, int(memory / 1.5e9)))


def run(*command):
    try:
        subprocess.run(command, check=True)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{command[0]} failed (status {error.returncode}); its messages stand above. What has to be installed "
                 "for a build: docs/python.md")


class BuildWithCMake(build_ext):
    def build_extension(self, extension):
        target = Path(self.get_ext_fullpath(extension.name)).parent.resolve()
        build = Path(os.environ.get("RECAST_BUILD", ROOT / "build" / "python")).resolve()
        torch, _ = find_torch()
        if not runs("cmake"):
            sys.exit("cmake is needed, 3.25 or newer: apt install cmake ninja-build, or pip install cmake ninja")
        if not (build / "CMakeCache.txt").exists():
            self.configure(build, torch)
        run("cmake", "--build", build, "--target", "recast_python", "-j", str(jobs_that_fit()))
        run("cmake", "--install", build, "--component", "python", "--prefix", target, "--strip")
        self.replace_links(target)
        self.write_stubs(target, torch)

    def configure(self, build, torch):
        generator = ["-G", "Ninja"] if runs("ninja") else []
        try:
            run("cmake", "-S", ROOT, "-B", build, *generator, "-DCMAKE_BUILD_TYPE=Release",
                f"-DRECAST_TORCH_DIR={torch}", f"-DPython_EXECUTABLE={sys.executable}", "-DRECAST_PYTHON_REQUIRED=ON")
        except SystemExit:
            (build / "CMakeCache.txt").unlink(missing_ok=True)  # a build folder that is none must not be taken for one
            raise

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


check_setuptools()
# libtorch keeps no binary interface between versions: the wheel is for the one that is here. setup_requires: an isolated
# build fetches CMake where the machine has none.
setup(version=version(), install_requires=[f"torch=={find_torch()[1]}"],
      setup_requires=[] if runs("cmake") else ["cmake>=3.25", "ninja"], distclass=BinaryDistribution,
      ext_modules=[Extension("recast._core", sources=[])], cmdclass={"build_ext": BuildWithCMake})
