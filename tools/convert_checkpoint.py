#!/usr/bin/env python3
"""Converts a PyTorch checkpoint (.pt, .pth, .bin) into a safetensors file that recast can read.

The checkpoint is opened with weights_only=True: tensors are read, code in the file is not run. Files made by
torch.jit.save (TorchScript) or with whole pickled modules are refused.
"""
import argparse
import os
import re
import sys
import tempfile
import warnings

WRAPPERS = ("state_dict", "model", "state_dict_ema", "model_state_dict")
PREFIX = "module."
DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
SAFE_TORCH = (2, 10)  # weights_only could be bypassed before: CVE-2025-32434, CVE-2026-24747

MOST = 10_000  # characters of a message

USAGE, CONTENT, MISSING, CORRUPT, OTHER = 2, 3, 4, 5, 1  # exit statuses, as those of the command recast


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def printable(text, limit=300):
    """One line without what a terminal would obey: names of tensors, types and files are whatever somebody wrote there."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))
    return shown if len(shown) <= limit else shown[:limit] + "..."


def say(text, to=None):
    """Prints a line, in a terminal of another encoding with its characters spelled out."""
    stream = to or sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  tools/convert_checkpoint.py vit_small.pth vit_small.safetensors\n\n"
        "exit status: 0 done, 2 usage or existing output, 3 content that cannot be converted, 4 no such file, "
        "5 damaged file, 1 anything else",
    )
    parser.add_argument("input", metavar="FILE.pth", help="checkpoint to read (.pt, .pth, .bin)")
    parser.add_argument("output", metavar="OUT.safetensors", help="file to write")
    parser.add_argument("--key", help=f"entry that holds the weights; default: the first present of {', '.join(WRAPPERS)}, "
                        "else the whole file")
    parser.add_argument("--force", action="store_true", help="replace OUT.safetensors where it exists")
    return parser.parse_args(argv)


def check_paths(source, target, force):
    if not os.path.exists(source):
        raise Refused(MISSING, f"{source}: no such file")
    if os.path.isdir(source):
        raise Refused(USAGE, f"{source}: is a folder; expected a checkpoint file")
    if os.path.isdir(target):
        raise Refused(USAGE, f"{target}: is a folder; expected the name of a file to write")
    if os.path.exists(target) and not force:
        raise Refused(USAGE, f"{target}: exists; give --force to replace it")
    if not os.path.isdir(os.path.dirname(target) or "."):
        raise Refused(MISSING, f"{target}: its folder does not exist")


def load(source):
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < SAFE_TORCH:
        raise Refused(OTHER, f"torch {torch.__version__} cannot open foreign checkpoints safely; install 2.10 or newer")
    if os.path.getsize(source) == 0:
        raise Refused(CORRUPT, f"{source}: is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters comes as an exception
            return torch.load(source, map_location="cpu", weights_only=True)
    except OSError as error:
        raise Refused(OTHER, f"{source}: {error.strerror or error}") from error
    except Exception as error:  # torch raises many kinds: a line for each would promise more than it keeps
        text = " ".join(re.sub("\x1b\\[[0-9;]*m", "", str(error)).split())  # torch sets parts of it in bold
        if "TorchScript" in text:
            raise Refused(CONTENT, f"{source}: is a TorchScript program, not weights; save its state_dict() instead") from error
        if "Unsupported" in text or "WeightsUnpickler" in text or "GLOBAL" in text:
            raise Refused(CONTENT, f"{source}: holds Python objects besides tensors, which are not loaded; save its "
                          f"state_dict() instead ({text[:160]})") from error
        raise Refused(CORRUPT, f"{source}: is damaged or no PyTorch checkpoint ({text[:160]})") from error


def unwrap(content, key, source):
    """The dictionary of weights inside the checkpoint."""
    if not isinstance(content, dict):
        raise Refused(CONTENT, f"{source}: holds a {type(content).__name__}; expected a dictionary of tensors")
    if key is not None:
        if key not in content:
            has = ", ".join(printable(name) for name in list(content)[:10])
            raise Refused(CONTENT, f"{source}: has no entry '{key}'; it has {has}")
        inner = content[key]
        if not isinstance(inner, dict):
            raise Refused(CONTENT, f"{source}: entry '{key}' is a {type(inner).__name__}; expected a dictionary")
        return inner
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            return content[wrapper]
    return content


def collect(weights, source):
    """(tensors by name, names of what is no tensor)."""
    import torch

    tensors, others = {}, []
    for name, value in weights.items():
        if not isinstance(value, torch.Tensor):
            others.append(printable(name))
            continue
        name = str(name)
        short = name[len(PREFIX):] if name.startswith(PREFIX) else name
        if short in tensors:
            raise Refused(CONTENT, f"{source}: two tensors are called '{printable(short)}' once '{PREFIX}' is dropped")
        if value.layout != torch.strided or value.is_quantized:
            raise Refused(CONTENT, f"{source}: tensor '{printable(name)}' is sparse or quantised; make it dense first")
        if str(value.dtype).removeprefix("torch.") not in DTYPES:
            raise Refused(CONTENT, f"{source}: tensor '{printable(name)}' is {value.dtype}; recast reads {', '.join(DTYPES)}")
        # A clone of its own: tied weights share memory, which the format does not allow.
        tensors[short] = value.detach().clone(memory_format=torch.contiguous_format)
    if not tensors:
        shown = ", ".join(others[:10]) or "nothing"
        raise Refused(CONTENT, f"{source}: no tensors found at the top level, only {shown}; choose an entry with --key")
    return tensors, others


def write(tensors, target):
    """Whole or not at all: a temporary file beside the target, renamed at the end."""
    from safetensors.torch import save_file

    folder = os.path.dirname(target) or "."
    handle, temporary = tempfile.mkstemp(prefix=".recast-", suffix=".tmp", dir=folder)
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata={"format": "pt"})
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except Exception as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise Refused(OTHER, f"{target}: cannot be written: {' '.join(str(error).split())}") from error


def main(argv=None):
    arguments = parse_arguments(argv)
    try:
        check_paths(arguments.input, arguments.output, arguments.force)
        weights = unwrap(load(arguments.input), arguments.key, arguments.input)
        tensors, others = collect(weights, arguments.input)
        write(tensors, arguments.output)
    except Refused as error:
        say(f"convert_checkpoint: {printable(error, MOST)}", sys.stderr)
        return error.status
    except ImportError as error:
        say(f"convert_checkpoint: {printable(error)}; run it with the Python of .venv (tools/setup.sh makes it)", sys.stderr)
        return OTHER
    if others:
        say(f"convert_checkpoint: left out, no tensors: {printable(', '.join(others), MOST)}", sys.stderr)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    say(f"{printable(arguments.output, MOST)}: {len(tensors)} tensors, {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
