"""bench/soak: `recast serve` under mixed load for as long as is asked, while other processes change its tasks.

Clients over HTTP and gRPC ask for single tasks, mixed batches, metadata, the index and metrics; some send what is wrong
or go before they are answered. Meanwhile tasks are learned, imported as the next version, rolled back and removed, each
by a process of its own. Every answer is compared with the versions that held while it was asked for: the number of its
version, and its logits to the bit (--mixing grouped). What the variants answer is asked beforehand, of tasks that are
left alone; learning again with the same seed must give the same.

The verdict is `passed` if every answer was right, nobody but the client was to blame for an error, every change
succeeded, memory stayed flat in the second half, and the server ended with status 0 when it was asked.
"""

import argparse
import http.client
import itertools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench" / "serving"), str(ROOT / "bench"), str(ROOT / "tests" / "golden")]

import grpc
import numpy
from PIL import Image

import protobuf
import protocol
import report
from history import REMOVED, History, may_be
from load import percentile
from servers import Server

VARIANTS, IMAGES, SWAPPED = 4, 6, 3
CLASSES = ("blue", "green", "red")
INFER = "/inference.GRPCInferenceService/ModelInfer"
SMALL_CACHES = ["--task-memory", 8, "--weight-memory", 64]  # MB: full early, so that only what leaks goes on growing


def arguments():
    parser = argparse.ArgumentParser(prog="bench/soak", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600, help="default 3600")
    parser.add_argument("--model", type=Path, help="a model directory, which is copied (default: bench's ViT-S/16)")
    parser.add_argument("--image-size", type=int, default=32, help="side of what the network sees (default 32)")
    parser.add_argument("--clients", type=int, default=3, help="over HTTP, and as many over gRPC (default 3)")
    parser.add_argument("--pause", type=float, default=1, help="seconds between two changes (default 1)")
    parser.add_argument("--learn-every", type=int, default=10, help="of so many changes one is learned (default 10)")
    parser.add_argument("--growth", type=float, default=5, help="percent of memory in the second half (default 5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--recast", type=Path, default=ROOT / "build/bin/recast")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/bench/serving", help="of bench's own model")
    return parser.parse_args()


# ---- what is asked for ----------------------------------------------------------------------------------------------

def png(pixels):
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def image_of(label, size, draws):
    """Noise of one colour a class, so that there is something to learn."""
    pixels = draws.integers(0, 120, (size, size, 3))
    pixels[:, :, CLASSES.index(label)] += 60
    return png(pixels.astype(numpy.uint8))


def write_images(folder, size, draws):
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for i in range(12):
            (folder / label / f"{i}.png").write_bytes(image_of(label, size, draws))


def encoded(texts):
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


OUTPUTS = ("logits", "version", "num_classes")


def http_request(images, tasks=None):
    """(body, bytes of it that are JSON) for rows of one task, or of one a row."""
    tensors = [("image", encoded(images))] + ([("task", encoded(task.encode() for task in tasks))] if tasks else [])
    head = {"inputs": [{"name": name, "datatype": "BYTES", "shape": [len(images)],
                        "parameters": {"binary_data_size": len(data)}} for name, data in tensors],
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in OUTPUTS]}
    text = json.dumps(head).encode()
    return text + b"".join(data for _, data in tensors), len(text)


def grpc_request(model, images, tasks=None):
    field, varint = protobuf.field, protobuf.varint
    tensors = [(b"image", encoded(images))] + ([(b"task", encoded(task.encode() for task in tasks))] if tasks else [])
    inputs = b"".join(field(5, field(1, name) + field(2, b"BYTES") + field(3, varint(len(images))))
                      for name, _ in tensors)
    return (field(1, model.encode()) + inputs + b"".join(field(6, field(1, name.encode())) for name in OUTPUTS) +
            b"".join(field(7, data) for _, data in tensors))


def grpc_answer(message, rows):
    raw = [bytes(data) for number, data in protobuf.fields(message) if number == 6]
    return {"logits": numpy.frombuffer(raw[0], numpy.float32).reshape(rows, -1),
            "version": numpy.frombuffer(raw[1], numpy.int64), "num_classes": numpy.frombuffer(raw[2], numpy.int64)}


# ---- what is found ---------------------------------------------------------------------------------------------------

class Findings:
    """Counts and faults. Threads: all calls in parallel."""

    def __init__(self):
        self.lock, self.counts, self.faults, self.latencies = threading.Lock(), Counter(), [], []

    def count(self, *what):
        with self.lock:
            self.counts[".".join(what)] += 1

    def fault(self, text):
        with self.lock:
            self.counts["faults"] += 1
            if len(self.faults) < 100:
                self.faults.append(text)

    def took(self, seconds):
        with self.lock:
            self.latencies.append(seconds)

    def of(self, prefix):
        return {key[len(prefix) + 1:]: value for key, value in sorted(self.counts.items())
                if key.startswith(prefix + ".")}


class Soak:
    """What all threads share."""

    def __init__(self, options, folder, images):
        self.options, self.folder, self.images = options, folder, images
        self.model, self.data = folder / "model", folder / "data"
        self.findings, self.histories, self.known = Findings(), {}, {}
        self.over = threading.Event()
        self.server = None

    # ---- the program ----

    def recast(self, *words):
        """What a command says with --json. Throws CalledProcessError."""
        command = [str(word) for word in (self.options.recast, *words, "--json", "--quiet")]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
        return json.loads(done.stdout)

    def tasks(self, *words):
        return self.recast("tasks", self.model, *words)

    def learn(self, task, variant):
        out = Path(tempfile.mkdtemp(dir=self.folder)) / "run"
        self.recast("learn", self.model, "--task", task, "--data", self.data, "--epochs", 1, "--image-size",
                    self.options.image_size, "--seed", self.options.seed + variant, "--threads", 1, "--no-test",
                    "--out", out)
        shutil.rmtree(out.parent)

    def file(self, variant):
        return self.folder / f"variant-{variant}.safetensors"

    def prepare(self):
        """Learns the variants, and puts the first one into every task that will change."""
        for variant in range(VARIANTS):
            self.learn(f"variant-{variant}", variant)
            self.tasks("export", f"variant-{variant}", self.file(variant))
        for i in range(SWAPPED):
            self.import_next(f"swapped-{i}", 0)
        self.histories["learned"] = History()

    def start(self):
        self.server = Server("recast", [self.options.recast, "serve", self.model, "--http-port", 0, "--grpc-port", 0,
                                        "--metrics-port", 0, "--json", "--mixing", "grouped", *SMALL_CACHES])

    def learn_answers(self):
        """What each variant answers for each image, alone."""
        client = HttpClient(self, random.Random(0))
        for variant in range(VARIANTS):
            for i, image in enumerate(self.images):
                status, answer = client.infer(f"variant-{variant}", [image])
                if status != 200:
                    raise SystemExit(f"soak: variant-{variant} is not answered: status {status}")
                self.known[variant, i] = answer["logits"][0]
        for i in range(len(self.images)):
            if len({self.known[variant, i].tobytes() for variant in range(VARIANTS)}) < VARIANTS:
                raise SystemExit("soak: two variants answer alike, so a wrong version could not be told")

    # ---- changes ----

    def change(self, task, variant, *words):
        history = self.histories.setdefault(task, History())
        state = history.begin(variant)
        said = self.tasks(*words)
        history.end()
        if variant is not REMOVED and said["version"] != state.version:
            self.findings.fault(f"{task}: the change to version {state.version} says that it made {said['version']}")

    def import_next(self, task, variant):
        self.change(task, variant, "import", self.file(variant), "--as", task)

    def roll_back(self, task, draws):
        state = draws.choice([state for state in self.histories[task].states if state.version])
        self.change(task, state.variant, "rollback", task, state.version)

    def learn_again(self, variant):
        history = self.histories["learned"]
        history.begin(variant)
        self.learn("learned", variant)
        history.end()

    def change_something(self, draws, number):
        task = f"swapped-{draws.randrange(SWAPPED)}"
        if number % self.options.learn_every == 0:
            what = "learn"
            self.learn_again(draws.randrange(VARIANTS))
        elif self.histories[task].now.variant is not REMOVED and draws.random() < 0.2:
            what = "remove"
            self.change(task, REMOVED, "remove", task)
        elif draws.random() < 0.4:
            what = "rollback"
            self.roll_back(task, draws)
        else:
            what = "import"
            self.import_next(task, draws.randrange(VARIANTS))
        self.findings.count("changes", what)

    def change_tasks(self):
        draws = random.Random(self.options.seed)
        for number in itertools.count(1):
            if self.over.wait(self.options.pause):
                return
            try:
                self.change_something(draws, number)
            except Exception as error:  # noqa: BLE001  whatever it is, it is a finding
                self.findings.fault(f"a change failed: {error}")
                return

    # ---- answers ----

    def judge(self, what, tasks, images, status, answer, sent, done):
        """`status` as HTTP has it; `answer`: tensors, or None. `tasks`: of each row."""
        findings = self.findings
        if status == 404:
            right = any(may_be(self.histories[task], 0, sent, done) for task in tasks if task in self.histories)
            if right:
                return findings.count("answers", "removed")
            return findings.fault(f"{what}: {tasks} is not found, though it was not away")
        if status != 200:
            return findings.fault(f"{what}: status {status} for {tasks}")
        for row, (task, image) in enumerate(zip(tasks, images)):
            version = int(answer["version"][row])
            logits = answer["logits"][row][:int(answer["num_classes"][row])]
            history = self.histories.get(task)
            state = may_be(history, version, sent, done) if history else None
            if history and not state:
                findings.fault(f"{what}: {task} answered by version {version}, which did not hold then")
                continue
            variant = state.variant if history else int(task.rpartition("-")[2])
            if logits.tobytes() != self.known[variant, image].tobytes():
                findings.fault(f"{what}: {task} version {version}, image {image}: not the logits of variant {variant}")
                continue
            findings.count("answers", "right")
        return None

    def draw(self, draws):
        """(model, tasks of the rows, numbers of the images) of a request."""
        names = [f"variant-{i}" for i in range(VARIANTS)] + [f"swapped-{i}" for i in range(SWAPPED)] * 3 + ["learned"]
        rows = draws.choice((1, 1, 1, 2, 5))
        images = [draws.randrange(len(self.images)) for _ in range(rows)]
        if rows > 1 and draws.random() < 0.5:
            return "recast", [draws.choice(names) for _ in range(rows)], images
        task = draws.choice(names)
        return task, [task] * rows, images


# ---- clients ---------------------------------------------------------------------------------------------------------

class Client:
    def __init__(self, soak, draws):
        self.soak, self.draws = soak, draws

    def run(self):
        while not self.soak.over.is_set():
            try:
                self.step()
            except Exception as error:  # noqa: BLE001  the server went away, or said what cannot be read
                self.soak.findings.fault(f"{self.name}: {type(error).__name__}: {error}")
                self.connect()

    def step(self):
        chance = self.draws.random()
        if chance < 0.02:
            return self.go_early()
        if chance < 0.06:
            return self.ask_wrongly()
        if chance < 0.10:
            return self.look_around()
        model, tasks, images = self.soak.draw(self.draws)
        sent = time.monotonic()
        status, answer = self.infer(model, [self.soak.images[i] for i in images], tasks if model == "recast" else None)
        done = time.monotonic()
        self.soak.findings.took(done - sent)
        self.soak.findings.count("requests", self.name)
        self.soak.judge(self.name, tasks, images, status, answer, sent, done)
        return None

    def expect(self, what, status, *expected):
        """Of a request that is the client's fault, or of one for no task."""
        self.soak.findings.count("requests", self.name)
        if status in expected:
            if status >= 400:
                self.soak.findings.count("errors.client", str(status))
        else:
            self.soak.findings.fault(f"{self.name}: {what}: status {status}, {expected} expected")


class HttpClient(Client):
    name = "http"

    def __init__(self, soak, draws):
        super().__init__(soak, draws)
        self.connect()

    def connect(self):
        self.connection = http.client.HTTPConnection(*self.soak.server.address, timeout=60)

    def ask(self, method, path, body=None, fields=None):
        self.connection.request(method, path, body, fields or {})
        response = self.connection.getresponse()
        return response.status, response.read(), response.headers

    def infer(self, model, images, tasks=None):
        body, length = http_request(images, tasks)
        status, answer, fields = self.ask("POST", f"/v2/models/{model}/infer", body,
                                          {protocol.HEADER_LENGTH: str(length)})
        return status, protocol.decode(answer, int(fields[protocol.HEADER_LENGTH]))[1] if status == 200 else None

    def look_around(self):
        path = self.draws.choice(["/v2/health/ready", "/v2", "/v2/models/variant-0", "/v2/models/stats", "/metrics"])
        self.expect(path, self.ask("GET", path)[0], 200)
        self.expect("index", self.ask("POST", "/v2/repository/index", b"")[0], 200)

    def ask_wrongly(self):
        body, length = http_request(self.soak.images[:1])
        what, path, sent, fields, status = self.draws.choice([
            ("no JSON", "variant-0", b"{", {}, 400),
            ("no image", "variant-0", *http_request([b"no image"]), 415),
            ("no such task", "nobody", body, length, 404),
            ("a name that is a path", "..%2fx", body, length, 400),
            ("compressed", "variant-0", body, {"Content-Encoding": "gzip"}, 415)])
        if isinstance(fields, int):
            fields = {protocol.HEADER_LENGTH: str(fields)}
        self.expect(what, self.ask("POST", f"/v2/models/{path}/infer", sent, fields)[0], status)

    def go_early(self):
        body, length = http_request(self.soak.images * 5)
        self.connection.request("POST", "/v2/models/variant-0/infer", body, {protocol.HEADER_LENGTH: str(length)})
        self.connection.close()
        self.soak.findings.count("errors.client", "gone")
        self.connect()


STATUSES = {grpc.StatusCode.OK: 200, grpc.StatusCode.NOT_FOUND: 404, grpc.StatusCode.INVALID_ARGUMENT: 400,
            grpc.StatusCode.UNIMPLEMENTED: 415, grpc.StatusCode.UNAVAILABLE: 503}


class GrpcClient(Client):
    name = "grpc"

    def __init__(self, soak, draws):
        super().__init__(soak, draws)
        self.connect()

    def connect(self):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.soak.server.announced['grpc_port']}",
                                             [("grpc.use_local_subchannel_pool", 1)])

    def call(self, method, message):
        try:
            return 200, self.channel.unary_unary(method)(message, timeout=60)
        except grpc.RpcError as error:
            return STATUSES.get(error.code(), 500), None

    def infer(self, model, images, tasks=None):
        status, answer = self.call(INFER, grpc_request(model, images, tasks))
        return status, grpc_answer(answer, len(images)) if status == 200 else None

    def look_around(self):
        service = "/inference.GRPCInferenceService/"
        method, message = self.draws.choice([("ServerReady", b""), ("ServerMetadata", b""), ("RepositoryIndex", b""),
                                             ("ModelMetadata", protobuf.field(1, b"variant-0")),
                                             ("ModelStatistics", b"")])
        self.expect(method, self.call(service + method, message)[0], 200)

    def ask_wrongly(self):
        what, message, status = self.draws.choice([
            ("no message", b"\xff\xff\xff", 400), ("no image", grpc_request("variant-0", [b"no image"]), 415),
            ("no such task", grpc_request("nobody", self.soak.images[:1]), 404)])
        self.expect(what, self.call(INFER, message)[0], status)

    def go_early(self):
        call = self.channel.unary_unary(INFER).future(grpc_request("variant-0", self.soak.images * 5), timeout=60)
        call.cancel()
        self.soak.findings.count("errors.client", "gone")


# ---- memory ----------------------------------------------------------------------------------------------------------

def slope(points):
    """Of a line through (x, y), by least squares."""
    x, y = zip(*points)
    return statistics.linear_regression(x, y).slope if len(set(x)) > 1 else 0.0


def memory_verdict(samples, growth_percent):
    """samples: [(seconds, MiB)]. Of the second half: the median of its last third beside that of its first."""
    half = samples[len(samples) // 2:]
    third = max(1, len(half) // 3)
    first, last = (statistics.median(mib for _, mib in part) for part in (half[:third], half[-third:]))
    return {"first_mib": samples[0][1], "most_mib": max(mib for _, mib in samples), "half_mib": first, "last_mib": last,
            "slope_mib_per_hour": slope(half) * 3600, "flat": last <= first * (1 + growth_percent / 100)}


def watch_memory(soak, samples):
    begin = time.monotonic()
    while True:
        samples.append((time.monotonic() - begin, soak.server.memory_bytes() / 2**20))
        if soak.over.wait(min(5, soak.options.seconds / 40)):
            return


# ---- all of it -------------------------------------------------------------------------------------------------------

def run_load(soak):
    """For the time that is asked for, or until the server has gone. Gives the samples of its memory."""
    options, samples = soak.options, []
    clients = [kind(soak, random.Random(options.seed * 1000 + i)) for i, kind in
               enumerate([HttpClient] * options.clients + [GrpcClient] * options.clients)]
    threads = [threading.Thread(target=work, args=more) for work, *more in
               [(soak.change_tasks,), (watch_memory, soak, samples), *((client.run,) for client in clients)]]
    end = time.monotonic() + options.seconds
    for thread in threads:
        thread.start()
    while time.monotonic() < end and soak.server.process.poll() is None:
        time.sleep(0.1)
    soak.over.set()
    for thread in threads:
        thread.join()
    return samples


def document(soak, samples, seconds, status):
    findings, options = soak.findings, soak.options
    memory = memory_verdict(samples, options.growth)
    if not findings.of("answers").get("right"):
        findings.fault("nothing was answered")
    if not findings.of("changes"):
        findings.fault("nothing was changed")
    if status != 0:
        findings.fault(f"the server ended with status {status}")
    if not memory["flat"]:
        findings.fault(f"memory grew from {memory['half_mib']:.1f} to {memory['last_mib']:.1f} MiB in the second half")
    milliseconds = {f"p{percent}": percentile(findings.latencies, percent) * 1e3 for percent in (50, 99)} if (
        findings.latencies) else {}
    return {"verdict": "failed" if findings.counts["faults"] else "passed",
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "commit": report.git("rev-parse", "HEAD"),
            "seconds": seconds, "requests": findings.of("requests"), "answers": findings.of("answers"),
            "changes": findings.of("changes"), "ms": milliseconds, "memory": memory,
            "errors": {"client": findings.of("errors.client"), "server": findings.counts["faults"]},
            "faults": findings.faults, "memory_samples": [[round(at, 1), round(mib, 1)] for at, mib in samples],
            "options": {name: str(value) for name, value in vars(options).items()}}


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends too
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if options.model is None:
        import tasks

        options.model = tasks.kept_model(options)
    draws = numpy.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory(prefix="recast-soak-") as folder:
        soak = Soak(options, Path(folder), [image_of(CLASSES[i % 3], 16, draws) for i in range(IMAGES)])
        shutil.copytree(options.model, soak.model, ignore=shutil.ignore_patterns("runs"))
        write_images(soak.data, options.image_size, draws)
        soak.prepare()
        soak.start()
        try:
            soak.learn_answers()
            begin = time.monotonic()
            samples = run_load(soak)
            seconds = time.monotonic() - begin
        finally:
            soak.over.set()  # or the clients would go on where it was interrupted
            status = soak.server.stop()
        result = document(soak, samples, seconds, status)
    if options.json:
        report.write_json(options.json, result)
    shown = {key: result[key] for key in ("seconds", "requests", "answers", "changes", "ms", "memory", "errors")}
    print(json.dumps(shown, indent=1))
    for fault in result["faults"]:
        print(f"fault: {fault}")
    print(f"soak: {result['verdict']}")
    return 0 if result["verdict"] == "passed" else 1


if __name__ == "__main__":
    sys.exit(main())
