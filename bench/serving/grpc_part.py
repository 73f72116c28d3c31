"""Our server over gRPC beside the same server over HTTP: 1 task, the same images. The messages are made beforehand and
answers are not unpacked, as on the other side."""

import queue
import time
from contextlib import ExitStack

import grpc
import torch

import agreement
import measure
import tasks
from load import Window, ask_all, drive
from load_part import logits_of, together
from protobuf import field, fields, varint
from protocol import decode
from report import number

METHOD = "/inference.GRPCInferenceService/ModelInfer"
TRAFFIC = ("1 task", 1, 0)


def message(payload, task):
    """The bytes of a ModelInferRequest (src/serve/inference.proto) for the same image."""
    head = decode(payload.body, payload.length)[0]["inputs"][0]
    image = field(1, b"image") + field(2, head["datatype"].encode()) + field(3, b"".join(map(varint, head["shape"])))
    return (field(1, task.encode()) + field(5, image) + field(6, field(1, b"logits")) +
            field(7, payload.body[payload.length:]))


def logits(answer):
    """raw_output_contents of a ModelInferResponse."""
    return torch.frombuffer(bytearray(next(data for number, data in fields(answer) if number == 6)),
                            dtype=torch.float32)


class Callers:
    """Each with a connection of its own and one call on its way."""

    def __init__(self, port, clients):
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        self.channels = [grpc.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(clients)]
        self.calls = [channel.unary_unary(METHOD) for channel in self.channels]
        self.done = queue.SimpleQueue()
        self.on_their_way = 0

    def send(self, client, request):
        sent = time.monotonic()
        self.on_their_way += 1
        self.calls[client].future(request).add_done_callback(
            lambda future: self.done.put((client, sent, time.monotonic(), future)))

    def take(self):
        client, sent, done, future = self.done.get()
        self.on_their_way -= 1
        future.result()  # raises what the server said
        return client, sent, done

    def close(self):
        for channel in self.channels:
            channel.close()


def drive_grpc(port, clients, requests, seconds, warmup, meter):
    """As load.drive()."""
    callers, window, answered, counting = Callers(port, clients), Window(), set(), None
    begin = time.monotonic()
    for client in range(clients):
        callers.send(client, next(requests))
    while counting is None or time.monotonic() < counting + seconds:
        now = time.monotonic()
        if counting is None and now >= begin + warmup and len(answered) == clients:
            counting, before = now, meter()
        client, sent, done = callers.take()
        answered.add(client)
        if counting is not None and counting <= done < counting + seconds:
            window.latencies.append(done - sent)
        callers.send(client, next(requests))
    after = meter()
    window.seconds, window.used = seconds, {name: after[name] - before[name] for name in after}
    while callers.on_their_way:
        callers.take()
    callers.close()
    return window


def check(bench, server):
    """The same logits over both."""
    name, payloads = tasks.task_name(2), bench.payloads()
    http = logits_of(ask_all(server.address, 1, [((2, i), p.request(name)) for i, p in enumerate(payloads)]))[1]
    channel = grpc.insecure_channel(f"127.0.0.1:{server.announced['grpc_port']}")
    call = channel.unary_unary(METHOD)
    over_grpc = torch.cat([logits(call(message(payload, name))) for payload in payloads])
    channel.close()
    bench.require(agreement.compare_logits("grpc and http", bench.options.dtype, over_grpc, http))


def run(bench):
    options, windows = bench.options, {}
    _, starter = bench.work(10_000)
    with ExitStack() as servers:
        server = starter.recast()
        servers.callback(server.stop)
        check(bench, server)
        messages = [message(payload, tasks.task_name(2)) for payload in bench.payloads()]

        def forever():
            while True:
                yield from messages

        def meter():
            return {"server": server.processor_seconds(), "client": time.process_time()}

        for _ in range(options.rounds):
            for clients in options.clients:
                windows.setdefault((clients, "http"), []).append(drive(
                    server.address, clients, bench.requests(TRAFFIC, 0), options.seconds, options.warmup, meter))
                windows.setdefault((clients, "grpc"), []).append(drive_grpc(
                    server.announced["grpc_port"], clients, forever(), options.seconds, options.warmup, meter))
    table = [("clients", "over", "requests/s", "p50 ms", "p99 ms", "client's CPU")]
    for (clients, over), of in windows.items():
        rate = measure.summary([window.rate for window in of])["median"]
        used = sum(window.used["client"] for window in of) / sum(window.seconds for window in of)
        table.append((str(clients), over, number(rate), number(together(of, 50) * 1e3), number(together(of, 99) * 1e3),
                      f"{used:.1%}"))
    for clients in options.clients:
        bench.rows.append(measure.row("grpc", f"1 task, {clients} clients", options.dtype, "http", "requests/s",
                                      *([window.rate for window in windows[clients, over]]
                                        for over in ("grpc", "http")), more_is_better=True))
    bench.tables.append(table)
