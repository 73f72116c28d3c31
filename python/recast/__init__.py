"""recast: one frozen vision backbone, any number of tasks with a handful of numbers each.

    import recast

    model = recast.open("mymodel")
    model.learn("pets", "photos/pets", plugs=[recast.plugs.recast(grain="head")])
    print(model.evaluate("pets")["top1"])
    logits = model.tasks["pets"](pixels)          # torch.Tensor in, torch.Tensor out

Tensors cross between Python and the C++ library without a copy. Long calls release the interpreter's lock, take a
`progress` function, and end after the step at hand on Ctrl-C. Errors are `recast.Error` and its subclasses.
"""

import torch  # first: the library uses the libtorch that this loads

try:
    from . import _core
except ImportError as error:  # symbols of another libtorch are missing: there is no version to compare yet
    raise ImportError(
        f"recast's extension module cannot be loaded with PyTorch {torch.__version__}; it needs the one that it was built "
        f"with: build it again with 'pip install .' ({error})") from error

if torch.__version__.split("+")[0] != _core.torch_version.split("+")[0]:
    raise ImportError(
        f"recast was built with PyTorch {_core.torch_version} and finds {torch.__version__}; libtorch keeps no binary "
        "interface between versions: build it again with 'pip install .'")

from . import plugs
from .adapting import adapt, coefficients, head_of, load_task, save_task, write_model
from .data import DataLoader, Dataset, Preprocessing, Split, decode_image, encode_png, evaluation_pixels, normalise
from .directory import ModelDirectory, open
from .errors import (AlreadyExistsError, CancelledError, DataCorruptionError, Error, ExhaustedError, InternalError,
                     InvalidArgumentError, NotFoundError, ShapeMismatchError, UnavailableError, UnsupportedError)
from .lab import lab_list, lab_report, lab_run
from .models import compare_solvers, import_checkpoint, mimic, sweep_mimicry
from .plugs import Plug
from .progress import Progress, RecastWarning, print_progress
from .registry import architectures, doctor, log_to, machine, methods, recipes, solvers, versions
from .task import Task
from .tasks import Tasks

__version__ = versions()["recast"]

__all__ = [
    "AlreadyExistsError", "CancelledError", "DataCorruptionError", "DataLoader", "Dataset", "Error", "ExhaustedError",
    "InternalError", "InvalidArgumentError", "ModelDirectory", "NotFoundError", "Plug", "Preprocessing", "Progress",
    "RecastWarning", "ShapeMismatchError", "Split", "Task", "Tasks", "UnavailableError", "UnsupportedError", "adapt",
    "architectures", "coefficients", "compare_solvers", "decode_image", "doctor", "encode_png", "evaluation_pixels",
    "head_of", "import_checkpoint", "lab_list", "lab_report", "lab_run", "load_task", "log_to", "machine", "methods", "mimic", "normalise", "open", "plugs",
    "print_progress", "recipes", "save_task", "solvers", "sweep_mimicry", "versions", "write_model",
]
