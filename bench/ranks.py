"""Question: does learning with twice the images take two processes as long as one process takes with the images once?

Each process has one thread. A random ViT-S/16 learns ten classes of noise with RECAST-Att, so that nothing but the speed
is of interest; the time is that of the last of the epochs, whose images are decoded and in memory. First, two processes
and one learn the same images, and their coefficients and heads must agree to 1e-6."""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

import workload

ROOT = Path(__file__).resolve().parent.parent
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "core", "-n", "2"]
HOSTS = ["recast-a", "recast-b"]
ADDRESSES = ["10.213.47.1", "10.213.47.2"]


def write_images(folder, per_class, size):
    if folder.is_dir():
        return
    generator = np.random.default_rng(1)
    for label in range(workload.CLASSES):
        (folder / str(label)).mkdir(parents=True)
        for index in range(per_class):
            pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / str(label) / f"{index:04}.png")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def variables(rank, address, port):
    return {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": address, "MASTER_PORT": str(port)}


def finish(processes):
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"bench: ranks ended with {[process.returncode for process in processes]}")
    return json.loads(outputs[0])


def start(words, more=()):
    return subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, env=os.environ | dict(more))


def one(words):
    return finish([start(words)])


def by_mpirun(words):
    return finish([start(MPIRUN + words)])


def by_variables(words):
    port = free_port()
    return finish([start(words, variables(rank, "127.0.0.1", port)) for rank in range(2)])


def on_hosts(words):
    return finish([start(["ip", "netns", "exec", host] + words, variables(rank, ADDRESSES[0], 29500))
                   for rank, host in enumerate(HOSTS)])


class Hosts:
    """Two network namespaces, joined by a cable: what a process in one sees of the other goes over TCP alone."""

    def __enter__(self):
        self.remove()  # what a run that was killed has left
        for host in HOSTS:
            subprocess.run(["ip", "netns", "add", host], check=True)
        subprocess.run(["ip", "link", "add", "eth0", "netns", HOSTS[0], "type", "veth", "peer", "name", "eth0", "netns",
                        HOSTS[1]], check=True)
        for host, address in zip(HOSTS, ADDRESSES):
            for words in (["addr", "add", f"{address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"],
                          ["link", "set", "lo", "up"]):
                subprocess.run(["ip", "-n", host] + words, check=True)

    def __exit__(self, *_):
        self.remove()

    @staticmethod
    def remove():
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", host], stderr=subprocess.DEVNULL)


class Bench:
    def __init__(self, arguments):
        self.arguments = arguments
        self.recast = ROOT / "build/bin/recast"
        self.folder = Path(arguments.folder)
        work = workload.make_workload(self.folder, self.recast, 1)
        self.model = work.model
        for images in (arguments.images, 2 * arguments.images):
            write_images(self.data(images), images // workload.CLASSES, arguments.image_size)

    def data(self, images):
        return self.folder / f"images-{images}-{self.arguments.image_size}"

    def learn(self, name, run, images, batch):
        """What `recast learn --json` says, with a model directory of its own."""
        model = self.folder / "run"
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(self.model, model)
        result = run([self.recast, "learn", model, "--task", "noise", "--data", self.data(images), "--plug", "recast",
                      "--epochs", self.arguments.epochs, "--batch-size", batch, "--image-size",
                      self.arguments.image_size, "--augmentation", "none", "--amp", "fp32", "--threads", "1",
                      "--limit-validation", "1", "--no-test", "--recipe", "paper", "--json", "--quiet"])
        subprocess.run([self.recast, "tasks", model, "export", "noise", self.folder / f"{name}.safetensors", "--force",
                        "--quiet"], check=True, stdout=subprocess.DEVNULL)
        return result

    def check(self, runs):
        self.learn("one", one, self.arguments.images, self.arguments.batch)
        expected = load_file(self.folder / "one.safetensors")
        for name, run in runs.items():
            self.learn("two", run, self.arguments.images, self.arguments.batch)
            found = load_file(self.folder / "two.safetensors")
            widest = max(float(np.abs(found[key] - expected[key]).max()) for key in expected)
            print(f"check: {name} differs from one process by at most {widest:.2g}", file=sys.stderr)
            if widest > 1e-6:
                raise SystemExit(f"bench: {name} does not learn what one process does")

    def seconds(self, run, images, batch):
        result = self.learn("timed", run, images, batch)
        epochs = [line["seconds"] for line in result["history"] if line["stage"] == "train"]
        return epochs[-1], result.get("ranks", {}).get("step_bytes", 0)

    def measure(self, runs):
        images, batch = self.arguments.images, self.arguments.batch
        figures = {name: {"seconds": []} for name in ["one process", *runs]}
        for _ in range(self.arguments.repeats):  # in turn, so that whatever else the machine does meets all of them
            figures["one process"]["seconds"].append(self.seconds(one, images, batch)[0])
            for name, run in runs.items():
                seconds, bytes_a_step = self.seconds(run, 2 * images, 2 * batch)
                figures[name]["seconds"].append(seconds)
                figures[name]["step_bytes"] = bytes_a_step
        alone = statistics.median(figures["one process"]["seconds"])
        for name, figure in figures.items():
            median = statistics.median(figure["seconds"])
            share = images * (1 if name == "one process" else 2)
            figure |= {"median": median, "images_per_second": share / median, "efficiency": alone / median}
        return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=160, help="of one process; two get twice as many")
    parser.add_argument("--batch", type=int, default=16, help="of one process; two get twice as many")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hosts", action="store_true", help="also two hosts, as network namespaces; for root")
    parser.add_argument("--folder", default=str(ROOT / "build/bench/ranks"))
    parser.add_argument("--json", help="the figures go here as well")
    arguments = parser.parse_args()
    os.environ |= {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
    bench = Bench(arguments)

    def all_of(runs):
        bench.check(runs)
        return bench.measure(runs)

    runs = {"mpirun": by_mpirun, "torchrun's variables": by_variables}
    if arguments.hosts:
        with Hosts():
            figures = all_of(runs | {"two hosts": on_hosts})
    else:
        figures = all_of(runs)
    print(f"{'':24}{'s an epoch':>12}{'images/s':>10}{'efficiency':>12}{'bytes a step':>14}")
    for name, figure in figures.items():
        print(f"{name:24}{figure['median']:12.2f}{figure['images_per_second']:10.1f}{figure['efficiency']:12.2f}"
              f"{figure.get('step_bytes', 0):14}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"arguments": vars(arguments), "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
