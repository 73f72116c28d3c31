"""Runs bench/roofline_bench.cc once for each instruction set and prints what it measured."""

import argparse
import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# oneDNN's names, weakest first; a processor that lacks one measures what it has below it.
ISAS = {"AVX2": "AVX2", "AVX-512": "AVX512_CORE", "AVX-512 bf16": "AVX512_CORE_BF16", "all": "DEFAULT"}


def measure(program, isa, threads, memory):
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": isa, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(threads)}
    words = [program, "--threads", str(threads)] + (["--memory"] if memory else [])
    return json.loads(subprocess.run(words, env=environment, stdout=subprocess.PIPE, check=True).stdout)


def measure_all(program, threads):
    rates = {name: measure(program, isa, threads, isa == "DEFAULT") for name, isa in ISAS.items()}
    return {"threads": threads, "machine": rates["all"]["machine"],
            "gigabytes_per_second": rates["all"]["gigabytes_per_second"],
            "gflops": {name: rate["gflops"] for name, rate in rates.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "dev")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = measure_all(arguments.build / "bin" / "roofline_bench", arguments.threads)
    print(f"{arguments.threads} threads; GFLOP/s of products, by what oneDNN may use")
    for name, rates in result["gflops"].items():
        print(f"  {name:13} fp32 {rates['fp32']:7.0f}   bf16 {rates['bf16']:7.0f}")
    memory = result["gigabytes_per_second"]
    print(f"memory, GB/s: {memory['read']:.1f} read, {memory['read_and_write']:.1f} read and written")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
