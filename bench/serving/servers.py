"""Starts the servers of bench/serve, says how much processor time and memory they take, and ends them."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """A process that prints one JSON document with "http_port" once it answers; so many where it forks."""

    def __init__(self, name, command, documents=1, start_seconds=300):
        self.name = name
        self.begin = time.monotonic()
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, start_new_session=True)
        # Ends a start that takes too long: the pipe then closes, and the read below with it.
        timer = threading.Timer(start_seconds, self.process.kill)
        timer.start()
        try:
            self.announced = [read_document(self.process.stdout) for _ in range(documents)][-1]
        finally:
            timer.cancel()
        self.start_seconds = time.monotonic() - self.begin
        if self.announced is None:
            raise SystemExit(f"bench: {' '.join(map(str, command))} did not start (status {self.process.wait()})")
        self.address = ("127.0.0.1", self.announced["http_port"])

    def processes(self):
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def processor_seconds(self):
        return sum(times.user + times.system for times in (process.cpu_times() for process in self.processes()))

    def memory_bytes(self):
        """Resident, of all its processes."""
        return sum(process.memory_info().rss for process in self.processes())

    def stop(self):
        processes = self.processes() if self.process.poll() is None else []
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in psutil.wait_procs(processes, timeout=40)[1]:
            process.kill()
        self.process.stdout.close()
        return self.process.wait()


def read_document(stream):
    """The first JSON document of a stream, however many lines it has; None where the stream ends without one."""
    text = ""
    for line in stream:
        text += line.decode()
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            continue
    return None


class Starter:
    """Makes servers of each kind over one work."""

    def __init__(self, options, work):
        self.options, self.work = options, work

    def recast(self, model=None, mixing=None):
        options = self.options
        amp = ["--amp", "bf16"] if options.dtype == "bf16" else []
        return Server("recast", [options.recast, "serve", model or self.work.model, "--http-port", 0, "--grpc-port", 0,
                                 "--no-metrics", "--json", "--threads", options.threads, "--max-batch",
                                 options.max_batch, "--mixing", mixing or options.mixing, *amp])

    def rival(self, kind, slots=1):
        options, work = self.options, self.work
        name, (kind, _, processes) = kind, kind.partition("-x")
        return Server(name, [sys.executable, ROOT / "bench/serving/rivals.py", kind, "--checkpoint", work.checkpoint,
                             "--model", work.model, "--numbers", work.numbers, "--adapters", work.adapters,
                             "--image-size", options.image_size, "--dtype", options.dtype, "--threads",
                             options.threads, "--max-batch", options.max_batch, "--processes", processes or 1,
                             "--slots", slots], documents=int(processes or 1))
