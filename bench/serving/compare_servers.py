"""bench/serve: recast's server beside those that a PyTorch user writes. Answers are checked first; a check that fails
ends the bench without a time.

  load    requests a second and times of answers: 1, 8 and 64 clients; 1 task, 100 tasks, 10,000 tasks (Zipf)
  grpc    the same server over gRPC and over HTTP, 1 task
  start   start, memory and first requests to tasks that were never asked for, with few tasks and with 100,000
  swaps   a task is committed 1,000 times a second under load; each answer must be that of one committed version
  evil    times of good clients of ours beside one evil client of each kind: idle, slow, half open, resetting, lying
"""

import argparse
import os
import signal
import sys
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench" / "serving"), str(ROOT / "bench"), str(ROOT / "tests" / "golden")]

import agreement
import measure
import report
import tasks
from load import draw_tasks
from protocol import Payload
from servers import Starter

PARTS = ("load", "grpc", "start", "swaps", "evil")
PACKAGES = ("torch", "timm", "peft", "fastapi", "uvicorn", "uvloop", "httptools", "grpcio")
RANK = 4


def arguments():
    parser = argparse.ArgumentParser(prog="bench/serve", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="load (the default), grpc, start, swaps, evil")
    parser.add_argument("--seconds", type=float, default=4, help="that each measurement lasts (default 4)")
    parser.add_argument("--warmup", type=float, default=1.5, help="seconds before it (default 1.5)")
    parser.add_argument("--rounds", type=int, default=2,
                        help="of load, grpc and evil: measurements of each kind (default 2)")
    parser.add_argument("--clients", default="1,8,64")
    parser.add_argument("--rivals", default="torch,torch-x2,peft",
                        help="torch is always among them; torch-x2: two processes of one thread")
    parser.add_argument("--tasks", type=int,
                        help="in the store: 10000 for load, 100000 for start, 100 for swaps and evil")
    parser.add_argument("--zipf", type=float, default=1.0, help="exponent of how often tasks are asked for (default 1)")
    parser.add_argument("--image-size", type=int, default=224, help="side of what the network sees (default 224)")
    parser.add_argument("--input", choices=["jpeg", "fp32"], default="jpeg",
                        help="image files, or preprocessed pixels (default jpeg)")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="of the products (default fp32)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each server (default: all cores)")
    parser.add_argument("--max-batch", type=int, default=8, help="of ours and of peft (default 8)")
    parser.add_argument("--mixing", default="auto", help="of ours: auto, grouped, templates (default auto)")
    parser.add_argument("--swap-rate", type=float, default=1000, help="commits a second (default 1000)")
    parser.add_argument("--starts", type=int, default=5, help="of the server in start (default 5)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--recast", type=Path, default=ROOT / "build/bin/recast")
    parser.add_argument("--write-tasks", type=Path, default=ROOT / "build/dev/bin/write_tasks")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/bench/serving", help="for files on the way")
    chosen = parser.parse_args()
    chosen.parts = chosen.parts or ["load"]
    for part in chosen.parts:
        if part not in PARTS:
            parser.error(f"no part '{part}': {', '.join(PARTS)}")
    chosen.clients = [int(clients) for clients in chosen.clients.split(",")]
    chosen.rivals = [rival for rival in chosen.rivals.split(",") if rival not in ("", "torch")]
    for rival in chosen.rivals:
        if rival != "peft" and not (rival.startswith("torch-x") and rival[7:].isdecimal()):
            parser.error(f"no rival '{rival}': torch, torch-x2, peft")
    if chosen.image_size % 16 or chosen.rounds < 1 or chosen.starts < 1 or min(chosen.clients) < 1:
        parser.error("--image-size is a multiple of 16; rounds, starts and clients are at least 1")
    return chosen


class Bench:
    """What the parts share: options, files, images, results."""

    def __init__(self, options):
        self.options = options
        self.checks, self.rows, self.notes, self.tables, self.machine = [], [], [], [], {}
        self.images = tasks.jpeg_images() if options.input == "jpeg" else tasks.pixel_images(options.image_size)

    def work(self, default_tasks):
        """The files for a part with so many tasks unless --tasks says otherwise, and a starter of servers over them."""
        work = tasks.make_work(self.options, self.options.tasks or default_tasks, RANK)
        return work, Starter(self.options, work)

    def payloads(self, outputs=("logits",), parameters=None):
        return [Payload(image, outputs, parameters) for image in self.images]

    def requests(self, traffic, seed):
        """For ever: [((task, image), bytes)], the same for every server."""
        _, among, exponent = traffic
        payloads, draws = self.payloads(), draw_tasks(among, exponent, 20_000, seed)
        only = tasks.CLASSES.index(10)  # where there is one task, it has 10 classes
        for i in count():
            task, image = (int(draws[i % len(draws)]) if among > 1 else only), i % len(payloads)
            yield (task, image), payloads[image].request(tasks.task_name(task))

    def require(self, *checks):
        """One that fails ends the bench."""
        agreement.require(checks, self.checks)

    def target(self, name, value, least=None, most=None):
        """A goal that is set for the product: met, or missed and said so; the bench goes on."""
        met = value >= least if least is not None else value <= most
        wanted = f"at least {least:g}" if least is not None else f"at most {most:g}"
        self.notes.append(f"{'met   ' if met else 'MISSED'} {name}: {value:.3g}, {wanted} wanted")

    def document(self):
        options = {name: value if isinstance(value, (int, float, list, type(None))) else str(value)
                   for name, value in vars(self.options).items()}
        return report.provenance("bench/serve", self.machine, PACKAGES) | {
            "load_average_before": self.load_before, "options": options,
            "checks": [check.as_json() for check in self.checks], "rows": self.rows, "notes": self.notes}

    def write_json(self):
        if self.options.json:
            report.write_json(self.options.json, self.document())

    def print(self):
        for table in self.tables:
            print(report.aligned(table) + "\n")
        for note in self.notes:
            print(note)
        options = self.options
        print(f"{report.machine_text(self.machine)}; {os.cpu_count()} cores, shared with the client; {options.threads} "
              f"threads a server; vit_small_patch16_224, {options.image_size} px, {options.dtype}, {options.input}; "
              f"load average before: {self.load_before:.2f}")


def main():
    options = arguments()
    measure.environment(options.threads)
    bench = Bench(options)
    bench.load_before = os.getloadavg()[0]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end too
    bench.machine = tasks.machine(options)
    failed = False
    for part in options.parts:
        print(part, flush=True)
        try:
            __import__(f"{part}_part").run(bench)
        except agreement.CheckFailed:
            failed = True
            print("bench: a check failed, so no figures are given", file=sys.stderr)
            bench.rows, bench.tables = [], []
            break
        finally:
            bench.write_json()
    bench.print()
    bench.write_json()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
