"""Makes `import torchvision` work beside a torch build that its compiled part does not match.

The torchvision wheel is linked against one build of torch. Beside another one (the CPU build, say) its compiled
operators do not load, and its import stops where it gives shape rules to operators that nobody declared. timm and
transformers only want its transforms and model definitions, so declaring those operators' schemas is enough.
Import this module before timm, transformers or torchvision.
"""

import sys

import torch

_declared = None


def _import_torchvision():
    global _declared
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declared = torch.library.Library("torchvision", "FRAGMENT")
        _declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401


_import_torchvision()
