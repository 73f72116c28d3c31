"""The other side of interop_test.cc: the Python package safetensors writes, reads and judges files.

    interop.py write FOLDER   writes FOLDER/torch, FOLDER/numpy and FOLDER/many: what the package can write
    interop.py check FILE     exits 0 if FILE holds exactly what FOLDER/torch does
    interop.py many FILE      exits 0 if FILE holds exactly what FOLDER/many does
    interop.py judge FILE     FILE is a row of (8 bytes length, bytes); prints 1 for each that the package reads, else 0
    interop.py open FILE      prints 1 if the package opens FILE, else 0
"""
import struct
import sys

from safetensors import deserialize, safe_open

METADATA = {"format": "pt", "unicode": "caf\u00e9 \u20ac \U0001f600", "line": "a\nb\t\"c\"\\"}
# Every dtype that the package writes, by the name in the file: torch's name.
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz", "F4": "float4_e2m1fn_x2",
}
MANY = 65535


def pattern(count, dtype=""):
    """Bytes that mean something in every dtype; NaN and infinity among them."""
    return bytes((i * 37 + 11) % 256 & (1 if dtype == "BOOL" else 255) for i in range(count))


def expected():
    """Name to tensor: each dtype in two dimensions, as a scalar and without elements; awkward names."""
    import torch

    tensors = {}
    for name, torch_name in DTYPES.items():
        dtype = getattr(torch, torch_name)
        raw = torch.frombuffer(bytearray(pattern(48, name)), dtype=torch.uint8)
        tensors[name] = raw.view(2, 24).view(dtype)
        tensors[name + ".empty"] = torch.empty(3, 0, dtype=dtype)
        if name != "F4":
            tensors[name + ".scalar"] = raw[: dtype.itemsize].clone().view(dtype).reshape(())
    tensors["caf\u00e9.\U0001f600"] = torch.tensor([-1.5, float("inf")])
    tensors[""] = torch.ones(1)
    tensors["rank8"] = torch.arange(16).reshape(1, 2, 1, 2, 1, 2, 1, 2)
    tensors["n" * 512] = torch.ones(1, dtype=torch.int8)
    return tensors


def raw_bytes(tensor):
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def write(folder):
    import numpy
    from safetensors import numpy as for_numpy
    from safetensors import torch as for_torch

    for_torch.save_file(expected(), folder + "/torch", metadata=METADATA)
    counted = numpy.arange(6)
    for_numpy.save_file(
        {str(numpy.dtype(t)): counted.astype(t).reshape(2, 3)
         for t in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "c8", "?")}
        | {"big-endian": counted.astype(">f4"), "scalar": numpy.array(2.5), "empty": numpy.zeros((0, 7))},
        folder + "/numpy")
    for_numpy.save_file({f"t{i}": numpy.array([i % 256], "u1") for i in range(MANY)}, folder + "/many")


def check(path):
    """By the package's own tensors where its Python part knows the dtype, by its parser's bytes everywhere."""
    import torch

    want = expected()
    with open(path, "rb") as file:
        parsed = dict(deserialize(file.read()))
    assert set(parsed) == set(want), sorted(set(parsed) ^ set(want))
    for name, tensor in want.items():
        assert bytes(parsed[name]["data"]) == raw_bytes(tensor), name
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == METADATA, file.metadata()
        for name, tensor in want.items():
            if tensor.dtype in (torch.float8_e8m0fnu, torch.float4_e2m1fn_x2):
                shape = list(tensor.shape)
                shape[-1:] = [2 * size if tensor.dtype == torch.float4_e2m1fn_x2 else size for size in shape[-1:]]
                assert file.get_slice(name).get_shape() == shape, name
                continue
            got = file.get_tensor(name)
            assert got.dtype == tensor.dtype and got.shape == tensor.shape, name
            assert raw_bytes(got) == raw_bytes(tensor), name


def many(path):
    with open(path, "rb") as file:
        parsed = dict(deserialize(file.read()))
    assert len(parsed) == MANY
    for i in range(MANY):
        assert bytes(parsed[f"t{i}"]["data"]) == bytes([i % 256]), i


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


def opens(path):
    try:
        with safe_open(path, framework="np") as file:
            list(file.keys())
        print("1")
    except Exception:
        print("0")


if __name__ == "__main__":
    command, path = sys.argv[1:]
    {"write": write, "check": check, "many": many, "judge": judge, "open": opens}[command](path)
