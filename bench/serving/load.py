"""Load over HTTP/1.1: so many clients, each with a connection of its own and one request on its way (closed loop).

One thread moves all bytes, waits in epoll and does nothing else, so that the client takes little of the processor that
it shares with the server; how much it takes is part of the result.
"""

import math
import select
import socket
import time
from dataclasses import dataclass, field

import numpy

import protocol

RECEIVE = 1 << 18


class LoadError(Exception):
    """A server that answers otherwise than with 200, or goes away."""


@dataclass
class Answer:
    key: object    # what the request was about
    sent: float    # seconds of the monotonic clock: before its first byte was given to the system
    done: float    # after the answer's last byte came
    length: int    # bytes of the body that are JSON
    body: bytes

    def tensors(self):
        return protocol.decode(self.body, self.length)[1]


@dataclass
class Window:
    """What was answered between two moments."""
    seconds: float = 0.0
    latencies: list = field(default_factory=list)  # seconds
    used: dict = field(default_factory=dict)       # processor time by name, see drive()

    @property
    def rate(self):
        return len(self.latencies) / self.seconds

    def latency(self, percent):
        return percentile(self.latencies, percent)


def percentile(values, percent):
    """The least of `values` that `percent` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def zipf_shares(count, exponent):
    """How often each of `count` tasks is asked for: the one of rank r in proportion to r^-exponent."""
    shares = numpy.arange(1, count + 1, dtype=numpy.float64) ** -exponent
    return shares / shares.sum()


def draw_tasks(count, exponent, draws, seed):
    """Numbers of tasks from 0 on, drawn independently; exponent 0: all alike."""
    bounds = numpy.cumsum(zipf_shares(count, exponent))
    drawn = numpy.searchsorted(bounds, numpy.random.default_rng(seed).random(draws), side="right")
    return numpy.minimum(drawn, count - 1)  # the last bound may lie below 1 by rounding


class Connection:
    def __init__(self, address):
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.left = memoryview(b"")  # of the request, that the system has not taken yet
        self.open = False
        self.answers = 0

    def begin(self, key, request):
        self.key, self.left, self.got, self.wanted, self.open = key, memoryview(request), bytearray(), None, True
        self.sent = time.monotonic()
        return self.send()

    def send(self):
        """Whether more is left than the system takes now."""
        try:
            while len(self.left):
                self.left = self.left[self.socket.send(self.left):]
        except BlockingIOError:
            pass
        return len(self.left) > 0

    def receive(self):
        """The answer, once it is whole."""
        try:
            data = self.socket.recv(RECEIVE)
        except BlockingIOError:
            return None
        if not data:
            raise LoadError("the server closed a connection")
        self.got += data
        if self.wanted is None:
            end = self.got.find(b"\r\n\r\n")
            if end < 0:
                return None
            self.read_header(bytes(self.got[:end]), end + 4)
        if len(self.got) < self.wanted:
            return None
        if len(self.got) > self.wanted:
            raise LoadError("more than one answer")
        body = bytes(self.got[self.begin_of_body:])
        if self.status != 200:
            raise LoadError(f"{self.key}: status {self.status}, {body[:500]!r}")
        self.open = False
        self.answers += 1
        return Answer(self.key, self.sent, time.monotonic(), self.length, body)

    def read_header(self, header, begin):
        lines = header.split(b"\r\n")
        self.status = int(lines[0].split()[1])
        fields = dict(line.lower().split(b":", 1) for line in lines[1:])
        self.length = int(fields.get(protocol.HEADER_LENGTH.lower().encode(), 0))
        self.begin_of_body, self.wanted = begin, begin + int(fields[b"content-length"])


class Load:
    """`clients` connections to one server; `requests` gives (key, bytes) for ever, or until no more are to be sent."""

    def __init__(self, address, clients, requests):
        self.requests = iter(requests)
        self.poll = select.epoll()
        self.connections = {}
        for _ in range(clients):
            connection = Connection(address)
            self.connections[connection.socket.fileno()] = connection
            self.poll.register(connection.socket, select.EPOLLIN)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in self.connections.values():
            connection.socket.close()
        self.poll.close()

    def send_next(self, connection):
        following = next(self.requests, None)
        if following and connection.begin(*following):
            self.poll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def busy(self):
        return any(connection.open for connection in self.connections.values())

    def step(self, more):
        """Moves what can be moved and gives the answers that came; `more`: who was answered asks again."""
        answers = []
        for number, event in self.poll.poll(0.05):
            connection = self.connections[number]
            if event & select.EPOLLOUT and not connection.send():
                self.poll.modify(connection.socket, select.EPOLLIN)
            if event & ~select.EPOLLOUT and (answer := connection.receive()):
                answers.append(answer)
                if more:
                    self.send_next(connection)
        return answers


def drive(address, clients, requests, seconds, warmup=0.0, meter=dict, on_answer=None):
    """Asks for `warmup` seconds and until every client had an answer, then for `seconds` that count, and waits for what
    is on its way. `meter()` gives processor seconds by name, what the window used is their difference. `on_answer` sees
    the answers of the window."""
    window, begin, counting = Window(), time.monotonic(), None
    with Load(address, clients, requests) as load:
        for connection in load.connections.values():
            load.send_next(connection)
        while counting is None or time.monotonic() < counting + seconds:
            now = time.monotonic()
            warm = now >= begin + warmup and all(c.answers for c in load.connections.values())
            if counting is None and warm:
                counting, before = now, meter()
            for answer in load.step(more=True):
                if counting is not None and counting <= answer.done < counting + seconds:
                    window.latencies.append(answer.done - answer.sent)
                    if on_answer:
                        on_answer(answer)
        after = meter()
        window.seconds = seconds
        window.used = {name: after[name] - before[name] for name in after}
        while load.busy():
            load.step(more=False)
    return window


def ask_all(address, clients, requests):
    """The answers to a list of requests [(key, bytes)], in the order in which they came."""
    answers = []
    with Load(address, min(clients, len(requests)), requests) as load:
        for connection in load.connections.values():
            load.send_next(connection)
        while load.busy():
            answers += load.step(more=True)
    return answers
