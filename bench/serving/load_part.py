"""Requests a second and times of answers of each server, in turns: all of them run all the time, one is asked."""

import statistics
import time
from contextlib import ExitStack

import torch

import agreement
import measure
import tasks
from load import ask_all, drive, percentile
from report import number

CHECKED, ASKED = 30, 2     # (task, image) pairs, and how often each is asked of each way to run them: cold, then warm
UNDER_LOAD = 4             # answers of each measurement of ours that are checked too
PEFT_SLOTS = 128
SPEED, NEAR_SINGLE = 3, 0.7


def traffics(options):
    """(name, tasks, exponent): which tasks are asked for."""
    most = options.tasks or 10_000
    return [("1 task", 1, 0), (f"{min(100, most)} tasks", min(100, most), 0),
            (f"{most:,} tasks, Zipf {options.zipf:g}", most, options.zipf)]


def logits_of(answers):
    """All logits in one row, by (task, image)."""
    named = sorted((answer.key, answer.tensors()["logits"]) for answer in answers)
    return [key for key, _ in named], torch.cat([torch.from_numpy(values.copy()).flatten() for _, values in named])


def compare(bench, name, ours, theirs):
    (keys, mine), (others, wanted) = logits_of(ours), logits_of(theirs)
    assert keys == others, (keys, others)
    bench.require(agreement.compare_logits(name, bench.options.dtype, mine, wanted))


class Comparison:
    def __init__(self, bench, starter, servers):
        self.bench, self.starter, self.stack = bench, starter, servers
        self.windows = {}   # (traffic, clients, server) -> a window each round
        self.under_load = []

    def request(self, key, parameters=None):
        task, image = key
        return key, self.bench.payloads(parameters=parameters)[image].request(tasks.task_name(task))

    def start(self, make, *more):
        server = make(*more)
        self.stack.callback(server.stop)
        print(f"  {server.name}: started in {server.start_seconds:.1f} s", flush=True)
        return server

    def check(self, torch_server):
        """The same images and tasks: ours, mixed with others, in each way to run them, as PyTorch's, one by one."""
        most = min(self.starter.work.tasks, 100)
        pairs = sorted({(7 * i % most, i % len(self.bench.images)) for i in range(CHECKED)})
        theirs = ask_all(torch_server.address, 1, [self.request(pair) for pair in pairs])
        for mixing in ("grouped", "templates"):
            server = self.starter.recast(mixing=mixing)
            try:
                for asked in range(ASKED):
                    compare(self.bench, f"recast ({mixing}) and torch, asked {asked + 1} times",
                            ask_all(server.address, 8, [self.request(pair) for pair in pairs]), theirs)
            finally:
                server.stop()

    def check_peft(self, server, among):
        """Mixed batches as PEFT's own answers for one adapter at a time."""
        pairs = sorted({(i % among, i % len(self.bench.images)) for i in range(16)})
        mixed = ask_all(server.address, 8, [self.request(pair) for pair in pairs])
        alone = ask_all(server.address, 1, [self.request(pair, {"alone": True}) for pair in pairs])
        compare(self.bench, f"peft, {among} adapters: mixed and alone", mixed, alone)

    def check_under_load(self, torch_server):
        answers = {answer.key: answer for answer in self.under_load}
        theirs = ask_all(torch_server.address, 1, [self.request(key) for key in answers])
        compare(self.bench, f"recast under load and torch, {len(answers)} answers", list(answers.values()), theirs)

    def measure(self, traffic, clients, round_number, server):
        options, kept = self.bench.options, []

        def meter():
            return {"server": server.processor_seconds(), "client": time.process_time()}

        def keep(answer):
            if server.name == "recast" and len(kept) < UNDER_LOAD:
                kept.append(answer)

        window = drive(server.address, clients, self.bench.requests(traffic, round_number), options.seconds,
                       options.warmup, meter, keep)
        if not window.latencies:
            raise SystemExit(f"bench: {server.name} answered nothing in {options.seconds} s: use a larger --seconds")
        self.under_load += kept
        self.windows.setdefault((traffic[0], clients, server.name), []).append(window)
        print(f"  {traffic[0]}, {clients} clients, {round_number + 1}/{options.rounds} {server.name}: "
              f"{window.rate:.1f} requests/s, p50 {window.latency(50) * 1e3:.1f} ms", flush=True)

    def run(self, traffic, servers):
        for round_number in range(self.bench.options.rounds):
            for clients in self.bench.options.clients:
                for server in servers:
                    self.measure(traffic, clients, round_number, server)

    # ---- results ----

    def rates(self, traffic, clients, name):
        return [window.rate for window in self.windows[traffic, clients, name]]

    def median(self, traffic, clients, name="recast"):
        return statistics.median(self.rates(traffic, clients, name))

    def lines(self):
        """One for each measurement, and a row of the JSON file for each rival and figure."""
        yield ("tasks", "clients", "server", "requests/s", "least..most", "recast's share", "p50 ms", "p99 ms",
               "CPU ms a request", "client's CPU")
        for (traffic, clients, name), windows in self.windows.items():
            rates = measure.summary([window.rate for window in windows])
            answered = sum(len(window.latencies) for window in windows)
            p50, p99 = (together(windows, percent) * 1e3 for percent in (50, 99))
            server = sum(window.used["server"] for window in windows) / answered * 1e3
            client = sum(window.used["client"] for window in windows) / sum(window.seconds for window in windows)
            ratio = self.median(traffic, clients) / rates["median"]
            yield (traffic, str(clients), name, number(rates["median"]),
                   f"{number(rates['least'])}..{number(rates['most'])}",
                   "" if name == "recast" else f"{ratio:.2f} x", number(p50), number(p99), number(server),
                   f"{client:.1%}")

    def rows(self):
        dtype = self.bench.options.dtype
        for (traffic, clients, name), windows in self.windows.items():
            if name == "recast":
                continue
            own, what = self.windows[traffic, clients, "recast"], f"{traffic}, {clients} clients"
            yield measure.row("serve", what, dtype, name, "requests/s", self.rates(traffic, clients, "recast"),
                              self.rates(traffic, clients, name), more_is_better=True)
            for percent in (50, 99):
                times = [[window.latency(percent) * 1e3 for window in of] for of in (own, windows)]
                yield measure.row("serve", what, dtype, name, f"p{percent} ms", *times, more_is_better=False)
            used = [[window.used["server"] / len(window.latencies) * 1e3 for window in of] for of in (own, windows)]
            yield measure.row("serve", what, dtype, name, "CPU ms a request", *used, more_is_better=False)

    def judge(self):
        (single, _, _), *mixed = traffics(self.bench.options)
        for traffic, _, _ in mixed:
            for clients in self.bench.options.clients:
                what = f"{traffic}, {clients} clients"
                self.bench.target(f"{what}: times torch", self.median(traffic, clients) / self.median(
                    traffic, clients, "torch"), least=SPEED)
                self.bench.target(f"{what}: share of our own rate for 1 task",
                                  self.median(traffic, clients) / self.median(single, clients), least=NEAR_SINGLE)


def together(windows, percent):
    """Of all rounds' answers."""
    return percentile([latency for window in windows for latency in window.latencies], percent)


def run(bench):
    work, starter = bench.work(10_000)
    with ExitStack() as servers:
        comparison = Comparison(bench, starter, servers)
        torch_server = comparison.start(starter.rival, "torch")
        comparison.check(torch_server)
        ours = comparison.start(starter.recast)
        others = [comparison.start(starter.rival, rival) for rival in bench.options.rivals if rival != "peft"]
        for traffic in traffics(bench.options):
            with ExitStack() as for_this:
                turns = [ours, torch_server, *others]
                if "peft" in bench.options.rivals:
                    # As few adapters as the traffic needs: those that lie about cost time in every batch.
                    peft = starter.rival("peft", min(traffic[1], PEFT_SLOTS))
                    for_this.callback(peft.stop)
                    comparison.check_peft(peft, traffic[1])
                    turns.append(peft)
                comparison.run(traffic, turns)
        comparison.check_under_load(torch_server)
    bench.tables.append(list(comparison.lines()))
    bench.rows += comparison.rows()
    comparison.judge()
