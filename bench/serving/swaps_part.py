"""A task is committed again and again by another process while clients ask for it. Each answer must be, number for
number, that of the version that it names, and no version may be older than the last one that was committed before the
request was sent, or younger than the answer.

The versions take turns among a few sets of numbers with 2 to 50 classes; what each answers is asked beforehand, of
tasks that hold the same numbers and are left alone. The store lies in memory: a disk takes 4 ms and more for a commit.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import tasks
import versions
import workload
from agreement import Check, relative_tolerance
from load import ask_all, drive
from report import number

TASKS, VARIANTS, IMAGES, CLIENTS = 100, 8, 4, 8
NAME = "swapped"
OTHERS = 100  # times the tolerance that answers of other versions are apart at least


def command(bench, work, model, log, seconds):
    return [str(word) for word in (
        bench.options.write_tasks, "swap", "--model", model, "--numbers", work.numbers, "--task", NAME, "--variants",
        VARIANTS, "--rate", bench.options.swap_rate, "--seconds", seconds, "--image-size", work.size, "--log", log)]


def known_answers(bench, server):
    """Logits by (row of numbers, image)."""
    payloads = bench.payloads()[:IMAGES]
    requests = [((row, image), payload.request(tasks.task_name(row))) for row in range(VARIANTS)
                for image, payload in enumerate(payloads)]
    return {answer.key: answer.tensors()["logits"][0] for answer in ask_all(server.address, 2, requests)}


def check(bench, answers, commits, known):
    dtype = bench.options.dtype
    seen = []
    for answer in answers:
        tensors = answer.tensors()
        seen.append((answer.key, int(tensors["version"][0]), tensors["logits"][0], answer.sent, answer.done))
    verdict = versions.judge(seen, commits, known)
    bench.require(
        Check("swaps: a hundred tolerances beside the distance of two versions", OTHERS * relative_tolerance(dtype),
              versions.nearest(known)),
        Check("swaps: answers that are no version's", verdict.unknown, 0),
        Check("swaps: answers beside those of their version", verdict.worst, relative_tolerance(dtype)),
        Check("swaps: answers of a version older than the last before the request", verdict.stale, 0),
        Check("swaps: answers of a version younger than the answer", verdict.early, 0))
    if bench.options.mixing == "grouped" and dtype == "fp32":
        bench.require(Check("swaps: answers that have other bits", len(answers) - verdict.equal, 0))
    return verdict.equal, len({version for _, version, *_ in seen})


def ask_while_swapping(bench, server, swapping):
    payloads = bench.payloads(outputs=("logits", "version"))[:IMAGES]
    requests = [(image, payload.request(NAME)) for image, payload in enumerate(payloads)]

    def forever():
        while True:
            yield from requests

    answers = []
    process = subprocess.Popen(swapping, stdout=subprocess.DEVNULL)
    try:
        window = drive(server.address, CLIENTS, forever(), bench.options.seconds, 1.5, on_answer=answers.append)
    finally:
        status = process.wait()
    if status:
        raise SystemExit(f"bench: {' '.join(swapping)} ended with status {status}")
    return window, answers


def run(bench):
    work, starter = bench.work(TASKS)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="recast-bench-") as folder:
        model, first, log = Path(folder) / "model", Path(folder) / "first", Path(folder) / "log"
        shutil.copytree(work.model, model)
        workload.command(command(bench, work, model, first, 0.01))
        server = starter.recast(model)
        try:
            known = known_answers(bench, server)
            # It goes on past the window, so that commits fall into all of it.
            window, answers = ask_while_swapping(bench, server, command(bench, work, model, log,
                                                                        bench.options.seconds + 4))
        finally:
            server.stop()
        commits = versions.Commits(first.read_text(), log.read_text())
    equal, seen = check(bench, answers, commits, known)
    begin, end = min(answer.sent for answer in answers), max(answer.done for answer in answers)
    swapped = sum(begin <= when <= end for when, _ in commits.ends) / (end - begin)
    bench.tables.append([
        ("commits/s", "requests/s", "p50 ms", "p99 ms", "answers", "versions seen", "bit-equal"),
        (number(swapped), number(window.rate), number(window.latency(50) * 1e3), number(window.latency(99) * 1e3),
         str(len(answers)), str(seen), f"{equal / len(answers):.1%}")])
    bench.rows.append({"bench": "swaps", "commits_per_second": swapped, "requests_per_second": window.rate,
                       "p50_ms": window.latency(50) * 1e3, "p99_ms": window.latency(99) * 1e3,
                       "answers": len(answers), "versions_seen": seen, "bit_equal": equal})
    bench.target("commits a second under load", swapped, least=0.99 * bench.options.swap_rate)
