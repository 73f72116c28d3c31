"""Does one evil client slow down the others? Times of good clients alone and beside one evil client of each kind, in
turns, from the same server.

The evil client is a process of its own from 127.0.0.2, with the lowest priority (nice 19), since it shares the machine:
what is measured is what the server does for it, not the processor time that it takes itself. A kind that could not do
its harm, because this machine did not let it, ends the bench.
"""

import multiprocessing
import os
import resource
import socket
import statistics
import struct
import time

import measure
import tasks
from load import drive
from load_part import together
from report import number

TRAFFIC = ("1 task", 1, 0)
CLIENTS = 4
FROM = "127.0.0.2"
BIND_ADDRESS_NO_PORT = 24  # of Linux; Python has a name for it from 3.12 on
P99_RATIO = 2
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


# ---- evil ------------------------------------------------------------------------------------------------------------
# Each: (ports, a request that is right, tally) -> for ever.

class Tally:
    """What was done to the server, and what must be done before it shows; held: connections at the last count."""

    def __init__(self):
        self.done, self.least, self.held = (multiprocessing.Value("q", first) for first in (0, 10, 0))


def connect(port):
    connection = socket.socket()
    connection.settimeout(5)
    connection.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)  # ten thousand would not find one of their own
    connection.bind((FROM, 0))
    connection.connect(("127.0.0.1", port))
    return connection


def forced(connection):
    """Ends with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def text(data):
    return bytes([len(data)]) + data


def frame(kind, flags, stream, data):
    """Of HTTP/2."""
    return struct.pack(">I", len(data))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + data


HEADERS = b"".join(b"\0" + text(name) + text(value) for name, value in (
    (b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"),
    (b":path", b"/inference.GRPCInferenceService/ModelInfer"), (b"content-type", b"application/grpc"),
    (b"te", b"trailers")))


def goes_on(connection, drip):
    """Sends that and takes what came. False: the connection has ended, and is closed."""
    try:
        if drip:
            connection.send(drip)
        while connection.recv(1 << 16):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    connection.close()
    return False


def hold(port, count, tally, begin, drip=b""):
    """So many connections that began with some bytes, and send more twice a second; those that the server ends are
    replaced. Without descriptors or ports for them it ends itself."""
    tally.least.value = count
    connections = []
    while True:
        while len(connections) < count:
            try:
                connection = connect(port)
                connection.sendall(begin)
                connection.setblocking(False)
                connections.append(connection)
                tally.done.value += 1
            except (ConnectionError, TimeoutError):  # by the server
                break
        time.sleep(0.5)
        connections = [connection for connection in connections if goes_on(connection, drip)]
        tally.held.value = len(connections)


def idle(ports, _, tally):
    hold(ports["http"], 10_000, tally, b"")


def idle_grpc(ports, _, tally):
    hold(ports["grpc"], 5_000, tally, PREFACE)


def slow_headers(ports, _, tally):
    hold(ports["http"], 1_100, tally, b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: ", b"x")


def slow_bodies(ports, request, tally):
    hold(ports["http"], 1_100, tally, request[:len(request) // 2], b"x")


def half_open(ports, _, tally):
    hold(ports["grpc"], 1_000, tally, PREFACE[:20])


def slow_calls(ports, _, tally):
    """Calls of gRPC whose messages never come: a hundred from each of 42 connections, more than may be open."""
    hold(ports["grpc"], 42, tally, PREFACE + b"".join(frame(1, 4, stream, HEADERS) for stream in range(1, 200, 2)))


def large_bodies(ports, _, tally):
    """The beginning of 64 MiB each, from 16 connections."""
    head = b"POST /v2/models/x/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 67108864\r\n\r\n"
    hold(ports["http"], 16, tally, head + bytes(4 << 20), b"x")


def resets(ports, request, tally):
    """A thousand a second, at any point of a request."""
    while True:
        try:
            connection = connect(ports["grpc" if tally.done.value % 2 else "http"])
            connection.sendall(PREFACE if tally.done.value % 2 else request[:tally.done.value * 97 % len(request)])
            forced(connection)
        except OSError:
            pass
        tally.done.value += 1
        time.sleep(0.001)


def rapid_resets(ports, _, tally):
    """CVE-2023-44487: calls that are ended as soon as they are begun, a thousand a second."""
    while True:
        try:
            connection = connect(ports["grpc"])
            connection.sendall(PREFACE)
            for stream in range(1, 20_000, 2):
                connection.sendall(frame(1, 4, stream, HEADERS) + frame(3, 0, stream, struct.pack(">I", 8)))
                tally.done.value += 1
                time.sleep(0.001)
        except OSError:
            time.sleep(0.01)


def answered(port, requests, tally, pause):
    """One after the other, over one connection while it lasts."""
    while True:
        try:
            with connect(port) as connection:
                for request in requests:
                    connection.sendall(request)
                    if not connection.recv(1 << 16):
                        break
                    tally.done.value += 1
                    time.sleep(pause)
        except OSError:
            time.sleep(0.01)


def wrong_json(ports, _, tally):
    """A megabyte of numbers that is wrong at its end, ten times a second."""
    body = b'{"inputs":[{"name":"image","datatype":"FP32","shape":[1,3,400,400],"data":[' + b"1," * 500_000
    head = b"POST /v2/models/task-0000002/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    answered(ports["http"], [head + body] * 100, tally, 0.1)


def unknown_tasks(ports, _, tally):
    """Names that are not there, for which the nearest is looked up: two hundred a second."""
    head = b"GET /v2/models/tesk-%07d HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answered(ports["http"], [head % i for i in range(5_000)], tally, 0.005)


KINDS = {kind.__name__.replace("_", " "): kind for kind in (
    idle, idle_grpc, slow_headers, slow_bodies, half_open, slow_calls, large_bodies, resets, rapid_resets, wrong_json,
    unknown_tasks)}


def be_evil(kind, ports, request, tally):
    os.nice(19)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kind(ports, request, tally)


class Evil:
    """One of a kind, for a while."""

    def __init__(self, name, ports, request):
        self.name, self.tally = name, Tally()
        self.process = multiprocessing.Process(target=be_evil, args=(KINDS[name], ports, request, self.tally),
                                               daemon=True)

    def __enter__(self):
        self.process.start()
        end = time.monotonic() + 60
        while not self.is_evil() and self.process.is_alive() and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(1)
        return self

    def is_evil(self):
        return self.tally.done.value >= self.tally.least.value

    def __exit__(self, *_):
        self.process.kill()
        self.process.join()


# ---- good ------------------------------------------------------------------------------------------------------------

def run(bench):
    options = bench.options
    _, starter = bench.work(100)
    windows = {"nobody": []}
    server = starter.recast()
    try:
        ports = {"http": server.announced["http_port"], "grpc": server.announced["grpc_port"]}
        _, request = next(bench.requests(TRAFFIC, 0))

        def good():
            return drive(server.address, CLIENTS, bench.requests(TRAFFIC, 0), options.seconds, options.warmup)

        for round_number in range(options.rounds):
            for name in KINDS:
                windows["nobody"].append(good())
                with Evil(name, ports, request) as evil:
                    windows.setdefault(name, []).append(good())
                    acts, held = evil.tally.done.value, evil.tally.held.value
                    if not evil.is_evil() or not evil.process.is_alive():
                        raise SystemExit(f"bench: the evil client '{name}' did {acts} of {evil.tally.least.value} things "
                                         "or ended, so nothing was measured")
                print(f"  {round_number + 1}/{options.rounds} {name}: p99 "
                      f"{windows[name][-1].latency(99) * 1e3:.1f} ms, alone "
                      f"{windows['nobody'][-1].latency(99) * 1e3:.1f} ms, {acts} evil acts, {held} connections held",
                      flush=True)
                time.sleep(1)  # what it left behind ends
        memory = server.memory_bytes() / 2**20
    finally:
        server.stop()
    alone = [window.latency(99) * 1e3 for window in windows["nobody"]]
    table = [("beside", "requests/s", "p50 ms", "p99 ms", "of that alone")]
    for name, of in windows.items():
        ratio = together(of, 99) / together(windows["nobody"], 99)
        table.append((name, number(statistics.median(window.rate for window in of)),
                      number(together(of, 50) * 1e3), number(together(of, 99) * 1e3), f"{ratio:.2f} x"))
        if name != "nobody":
            bench.rows.append(measure.row("evil", name, options.dtype, "nobody", "p99 ms",
                                          [window.latency(99) * 1e3 for window in of], alone, more_is_better=False))
            bench.target(f"{name}: p99 beside that alone", ratio, most=P99_RATIO)
    bench.tables.append(table)
    bench.notes.append(f"memory of the server at the end: {memory:.0f} MiB")
