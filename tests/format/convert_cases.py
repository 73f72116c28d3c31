"""Makes checkpoints in a folder and converts each with tools/convert_checkpoint.py, in one process since importing torch
takes seconds: convert_cases.py FOLDER

Prints a line for each case: name, exit status, number of lines said, what was said (line breaks as " | ").
The output of case NAME lies in FOLDER/NAME.safetensors.
"""
import contextlib
import importlib.util
import io
import os
import pathlib
import sys
import warnings

import torch

FOLDER = sys.argv[1]
TOOL = pathlib.Path(__file__).parents[2] / "tools" / "convert_checkpoint.py"


class Trap:
    """Unpickled by a careless reader, it creates the file `ran`."""

    def __reduce__(self):
        return (open, (os.path.join(FOLDER, "ran"), "w"))


def path(name):
    return os.path.join(FOLDER, name)


def make_checkpoints():
    weights = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.tensor([1, 2], dtype=torch.int64)}
    shared = torch.ones(2, 2)
    torch.save(weights, path("plain.pth"))
    torch.save(weights, path("legacy.bin"), _use_new_zipfile_serialization=False)
    for wrapper in ("state_dict", "model", "state_dict_ema", "model_state_dict"):
        inside = {"module." + name: tensor for name, tensor in weights.items()}
        torch.save({"epoch": 3, wrapper: inside}, path(wrapper + ".pt"))
    torch.save({"student": weights}, path("student.pt"))
    torch.save({"tied.a": shared, "tied.b": shared, "view": shared.t(), "step": 7}, path("tied.pt"))
    torch.save({"module.a": shared, "a": shared}, path("clash.pt"))
    torch.save({"a": shared.to_sparse()}, path("sparse.pt"))
    torch.save({"a": shared.to(torch.complex64)}, path("complex.pt"))
    escape = "\x1b]0;owned\x07\x1b[2J\n\u202e"
    torch.save({"a": shared, escape: 7}, path("hostile_extra.pt"))
    torch.save({escape: shared.to_sparse()}, path("hostile_tensor.pt"))
    torch.save({escape: 7, "b" * 5000: 8}, path("hostile_key.pt"))
    torch.save([shared], path("list.pt"))
    torch.save({"a": shared, "trap": Trap()}, path("trap.pt"))
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path("script.pt"))
    with open(path("plain.pth"), "rb") as good, open(path("cut.pth"), "wb") as cut:
        cut.write(good.read()[:300])
    open(path("empty.pth"), "wb").close()


def convert(tool, name, source, *flags):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = tool.main([path(source), path(name + ".safetensors"), *flags])
    lines = said.getvalue().splitlines()
    print(name, status, len(lines), " | ".join(lines), sep="\t")


def main():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_checkpoints()
    spec = importlib.util.spec_from_file_location("convert_checkpoint", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for source in ("plain.pth", "legacy.bin", "state_dict.pt", "model.pt", "state_dict_ema.pt", "model_state_dict.pt",
                   "tied.pt", "clash.pt", "sparse.pt", "complex.pt", "list.pt", "trap.pt", "script.pt", "cut.pth",
                   "empty.pth", "none.pth", "student.pt", "hostile_extra.pt", "hostile_tensor.pt"):
        convert(tool, source.split(".")[0], source)
    convert(tool, "key", "student.pt", "--key", "student")
    convert(tool, "wrong_key", "student.pt", "--key", "teacher")
    convert(tool, "hostile_key", "hostile_key.pt", "--key", "\x1b[31mx")
    convert(tool, "plain", "plain.pth", "--force")


main()
