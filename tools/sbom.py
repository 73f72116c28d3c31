#!/usr/bin/env python3
"""Which parts of others a built recast has, as CycloneDX JSON: the Debian packages and wheels whose shared objects program
and libraries load, each object with its SHA-256, or whose headers are compiled in.
Usage: .venv/bin/python tools/sbom.py build/release > sbom.json"""
import hashlib
import importlib.metadata
import platform
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL


def lines(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"sbom: {command[0]}: {done.stderr.strip()}")
    return done.stdout.splitlines()


def cached(build, name):
    return re.search(rf"^{name}:\w+=(.*)$", (build / "CMakeCache.txt").read_text(), re.MULTILINE)[1]


def loaded(build):
    """Shared objects, those that are loaded by others included."""
    said = [line for file in build.glob("librecast*.so") for line in lines("ldd", str(file))]
    if not said or any("not found" in line for line in said):
        sys.exit("sbom: " + "; ".join([f"{build} holds no librecast.so whose libraries are all there", *said]))
    return {Path(word) for line in said if (word := line.split("=>")[-1].split()[0]).startswith("/")}


def compiled_in(build):
    """Headers. -n: who asks writes nothing, so that a build may go on beside."""
    files, ours = set(), False
    for line in lines("ninja", "-n", "-C", str(build), "-t", "deps"):
        if line and not line.startswith(" "):
            ours = line.startswith(("CMakeFiles/", "apps/"))  # neither tests nor benches
        elif ours and line:
            files.add(line.strip())
    return {build / file for file in files}


def of_debian(paths):
    """{path: URL of its package}. A file of /usr/lib may be called one of /lib, and two paths may lead to one file."""
    system = platform.freedesktop_os_release()
    names = defaultdict(set)
    for path in paths:
        real = path.resolve()
        if real.parts[1] == "usr":
            for name in (path, real, Path("/", *real.parts[2:])):
                names[str(name)].add(path)
    shown = [line.split() for line in
             lines("dpkg-query", "--show", "--showformat=${binary:Package} ${Package} ${Version} ${Architecture}\n")]
    lists = "\n".join(lines("dpkg-query", "--listfiles", *(key for key, *_ in shown))).split("\n\n")
    found = {}
    for (_, name, version, architecture), held in zip(shown, lists, strict=True):
        url = PackageURL("deb", system["ID"], name, version,
                         {"arch": architecture, "distro": f"{system['ID']}-{system['VERSION_ID']}"})
        found |= {path: url for file in held.splitlines() for path in names.get(file, ())}
    return found


def of_wheels(paths):
    """{path: URL of its wheel}, from the folders of packages that the paths lie in."""
    sites = {str(parent) for path in paths for parent in path.parents if parent.name == "site-packages"}
    found = {}
    for wheel in importlib.metadata.distributions(path=list(sites)):
        url = PackageURL("pypi", None, wheel.name.lower(), wheel.version)
        found |= {Path(wheel.locate_file(file)): url for file in wheel.files or ()}
    return found


def components(build):
    objects = loaded(build)
    files = objects | compiled_in(build)
    owners = of_debian(files) | of_wheels(files)
    own = Path(cached(build, "CMAKE_HOME_DIRECTORY"))
    if foreign := [str(file) for file in sorted(files - owners.keys())
                   if not {own, build} & {*file.parents, *file.resolve().parents}]:
        sys.exit(f"sbom: neither recast's, Debian's nor a wheel's: {', '.join(foreign)}")
    found = {}
    for file in sorted(files & owners.keys()):
        url = owners[file]
        if url not in found:
            found[url] = Component(name=url.name, version=url.version, purl=url, bom_ref=str(url))
        if file in objects:
            digest = HashType(alg=HashAlgorithm.SHA_256, content=hashlib.sha256(file.read_bytes()).hexdigest())
            found[url].components.add(Component(name=file.name, type=ComponentType.FILE, hashes=[digest],
                                                bom_ref=f"{url}#{file.name}"))
    return found.values()


folder = Path(sys.argv[1]).resolve()
bom = Bom(components=components(folder))
bom.metadata.component = Component(name="recast", version=cached(folder, "CMAKE_PROJECT_VERSION"),
                                   type=ComponentType.APPLICATION, bom_ref="recast")
bom.register_dependency(bom.metadata.component, bom.components)
print(JsonV1Dot6(bom).output_as_string(indent=2))
