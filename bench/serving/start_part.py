"""What a store of 100,000 tasks costs a server: its start, its memory, and the first request to a task that nobody
asked for yet, beside the same with a few tasks."""

import statistics

import measure
import tasks
from load import ask_all, percentile
from report import number

FEW, MANY = 100, 100_000
COLD = 200            # tasks that are asked for the first time, then again
START_SECONDS = 2


def times(answers, percent):
    return percentile([answer.done - answer.sent for answer in answers], percent) * 1e3


def first_requests(bench, server, among):
    """Answers to the first requests for tasks all over the store, and to the second ones."""
    payloads = bench.payloads()
    asked = range(0, among, max(1, among // COLD))
    requests = [(number, payloads[i % len(payloads)].request(tasks.task_name(number)))
                for i, number in enumerate(asked)]
    # What every first request pays, whichever task it is for.
    ask_all(server.address, 1, [(None, payloads[0].request(tasks.task_name(among - 1)))] * 8)
    return [ask_all(server.address, 1, requests) for _ in range(2)]


def measure_starts(bench, count):
    _, starter = bench.work(count)
    seconds, memory = [], []
    for i in range(bench.options.starts):
        server = starter.recast()
        try:
            seconds.append(server.start_seconds)
            memory.append(server.memory_bytes() / 2**20)
            if i == bench.options.starts - 1:
                cold, again = first_requests(bench, server, count)
                used = server.memory_bytes() / 2**20
        finally:
            server.stop()
    line = (f"{count:,}", f"{statistics.median(seconds):.3f}", f"{min(seconds):.3f}..{max(seconds):.3f}",
            number(statistics.median(memory)), number(times(cold, 50)), number(times(cold, 99)),
            number(times(again, 50)), number(times(again, 99)), str(len(cold)), number(used))
    return seconds, memory, line


def run(bench):
    table = [("tasks", "start s", "least..most", "MiB then", "first p50 ms", "p99", "second p50 ms", "p99", "of tasks",
              "MiB then")]
    few = bench.options.tasks and min(FEW, bench.options.tasks) or FEW
    many = bench.options.tasks or MANY
    bench.options.tasks = None  # work() takes what is asked for here
    results = [measure_starts(bench, count) for count in (few, many)]
    bench.tables.append(table + [line for _, _, line in results])
    for unit, values in (("start s", 0), ("MiB after the start", 1)):
        bench.rows.append(measure.row("start", f"{many} tasks beside {few}", bench.options.dtype, f"{few} tasks", unit,
                                      results[1][values], results[0][values], more_is_better=False))
    bench.target(f"start with {many:,} tasks, s", statistics.median(results[1][0]), most=START_SECONDS)
    bench.options.tasks = many
