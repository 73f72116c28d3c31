"""The other side of interop_test.cc: the Python package safetensors writes, reads and judges files.

    interop.py write FILE     writes the tensors of `expected()`
    interop.py check FILE     exits 0 if FILE holds exactly those
    interop.py judge FILE     FILE is a row of (8 bytes length, bytes); prints 1 for each that the package reads, else 0
"""
import struct
import sys

from safetensors import deserialize, safe_open

METADATA = {"format": "pt", "unicode": "caf\u00e9 \u20ac \U0001f600", "line": "a\nb\t\"c\"\\"}


def expected():
    import torch  # takes seconds, and `judge` does without

    dtypes = {
        "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
        "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    }
    tensors = {}
    for name, dtype in dtypes.items():
        counted = torch.arange(15) % 2 if dtype == torch.bool else torch.arange(15)
        tensors[name] = counted.to(dtype).reshape(3, 5)
    tensors["scalar"] = torch.tensor(0.1, dtype=torch.float64)
    tensors["empty"] = torch.zeros(0, 7)
    tensors["caf\u00e9.\U0001f600"] = torch.tensor([-1.5, float("inf")])
    return tensors


def write(path):
    from safetensors.torch import save_file

    save_file(expected(), path, metadata=METADATA)


def check(path):
    import torch

    with safe_open(path, framework="pt") as file:
        assert file.metadata() == METADATA, file.metadata()
        want = expected()
        assert set(file.keys()) == set(want), file.keys()
        for name, tensor in want.items():
            got = file.get_tensor(name)
            assert got.dtype == tensor.dtype and got.shape == tensor.shape and torch.equal(got, tensor), name


def judge(path):
    data = open(path, "rb").read()
    verdicts, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        try:
            deserialize(data[at + 8 : at + 8 + size])
            verdicts.append("1")
        except Exception:
            verdicts.append("0")
        at += 8 + size
    print("".join(verdicts))


if __name__ == "__main__":
    command, path = sys.argv[1:]
    {"write": write, "check": check, "judge": judge}[command](path)
