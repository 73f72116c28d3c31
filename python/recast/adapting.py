"""A timm network adapted by recast, as a plain torch.nn.Module: Python's autograd and optimisers train it, the C++
engine makes its weights.

    module = recast.adapt(timm.create_model("vit_small_patch16_224", pretrained=True, num_classes=10))
    optimiser = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=0.03)

What trains is the plug-ins' numbers (RECAST: coefficients) and the classifier; all else is frozen, batch norms' statistics
too. Each adapted weight is parametrised (torch.nn.utils.parametrize): `parametrize.cached()` makes each weight once in a
region, `parametrize.remove_parametrizations(layer, "weight")` leaves a plain layer with the weight as it is.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from . import _core
from .directory import ModelDirectory
from .plugs import Plug, plug_texts
from .progress import ProgressFunction, forwarded

StrPath = str | os.PathLike[str]


class SlotWeight(nn.Module):
    """Makes one weight of a network from the numbers of its plug-ins. Holds no numbers itself."""

    def __init__(self, adaptation: _core.Adaptation, slot: str, start: dict[str, Tensor]) -> None:
        super().__init__()
        self.adaptation, self.slot, self.names = adaptation, slot, list(start)
        self._start: list[Tensor] | None = list(start.values())

    def forward(self, *numbers: Tensor) -> Tensor:
        """The weight, in the dtype and on the device of the numbers; gradients flow into them."""
        return self.adaptation.weight(self.slot, dict(zip(self.names, numbers))).to(numbers[0].dtype)

    def right_inverse(self, weight: Tensor) -> Tensor | list[Tensor]:
        """The numbers that a task begins with, when the parametrisation is registered."""
        if self._start is None:
            raise RuntimeError(f"the weight of {self.slot} is made of frozen parts: set its numbers, not the weight")
        start = [number.detach().clone().to(weight.device, weight.dtype) for number in self._start]
        self._start = None
        return start[0] if len(start) == 1 else start


def _refuse(text: str) -> None:
    _core.raise_error("unsupported", f"[adapt] {text}")


def _preprocessing(model: nn.Module, known: dict[str, Any], image_size: int | None) -> dict[str, Any]:
    """As timm's config of the weights says, which knows more than the architecture's name."""
    timm = getattr(model, "pretrained_cfg", None) or {}
    found = dict(known)
    for field, key in (("mean", "mean"), ("std", "std"), ("interpolation", "interpolation"), ("crop_pct", "crop_pct")):
        if timm.get(key) is not None:
            found[field] = list(timm[key]) if isinstance(timm[key], (list, tuple)) else timm[key]
    if hasattr(model, "patch_embed"):
        found["size_px"] = model.patch_embed.img_size[0]
    elif timm.get("input_size"):
        found["size_px"] = timm["input_size"][-1]
    if image_size is not None:
        found["size_px"] = image_size
    return found


def _vision_transformer(model: Any) -> dict[str, Any]:
    """The entry "vit" of config.json for a VisionTransformer of timm, whatever its sizes."""
    block = model.blocks[0]
    patch, grid = model.patch_embed.patch_size, model.patch_embed.grid_size
    if patch[0] != patch[1] or grid[0] != grid[1]:
        _refuse(f"patches of {patch} in a grid of {grid}: only square ones are computed")
    poolings = {"token": "token", "avg": "average"}
    if model.global_pool not in poolings or not hasattr(model.norm, "eps"):
        _refuse(f"global_pool={model.global_pool!r} with {type(model.norm).__name__} before it: token, or avg after a "
                "LayerNorm, is computed")
    return {"depth": len(model.blocks), "width": model.embed_dim, "heads": block.attn.num_heads,
            "mlp_width": block.mlp.fc1.out_features, "patch_px": patch[0], "grid": grid[0],
            "register_tokens": model.num_reg_tokens, "class_token": model.cls_token is not None,
            "qkv_bias": block.attn.qkv.bias is not None, "layer_scale": hasattr(block.ls1, "gamma"),
            "class_position": not model.no_embed_class, "norm_eps": model.norm.eps,
            "pooling": poolings[model.global_pool], "pos_interpolation": "bicubic_antialias"}


def _config(model: nn.Module, image_size: int | None) -> dict[str, Any]:
    """config.json of a timm network."""
    timm = getattr(model, "pretrained_cfg", None) or {}
    name = timm.get("architecture") or type(model).__name__
    if all(hasattr(model, part) for part in ("patch_embed", "blocks", "pos_embed", "embed_dim")):
        config = _core.architecture("vit_tiny_patch16_224")
        config["vit"] = _vision_transformer(model)
    else:
        config = _core.architecture(name)
    config["architecture"] = name
    config["preprocessing"] = _preprocessing(model, config["preprocessing"], image_size)
    return config


def _place(module: nn.Module, slot: str, vector: bool) -> tuple[nn.Module, str]:
    """The layer of a slot, and what its tensor is called there."""
    path, name = slot.rsplit(".", 1) if vector else (slot, "weight")
    try:
        layer = module.get_submodule(path)
    except AttributeError:
        layer = None
    if layer is None or not isinstance(getattr(layer, name, None), nn.Parameter):
        _refuse(f"the network has no parameter {slot}{'' if vector else '.weight'}: choose plug-ins that leave it alone")
    return layer, name


def _plain_state(module: nn.Module) -> dict[str, Tensor]:
    """A state dict as it was before weights were parametrised."""
    state = {}
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if ".parametrizations." not in name:
                state[name] = tensor
                continue
            layer, tensor_name = name.split(".parametrizations.")
            tensor_name = tensor_name.split(".")[0]
            full = f"{layer}.{tensor_name}"
            if full not in state:
                state[full] = getattr(module.get_submodule(layer), tensor_name)
    return {name: tensor.detach() for name, tensor in state.items()}


def _stay_in_evaluation(self: nn.Module, mode: bool = True) -> nn.Module:
    return nn.Module.train(self, False)


def _freeze(module: nn.Module) -> None:
    """No parameter moves, and no statistic of a batch norm."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            kind = type(layer)
            layer.__class__ = type(f"Frozen{kind.__name__}", (kind,), {"train": _stay_in_evaluation})
            layer.eval()


def _adaptation(module: nn.Module) -> _core.Adaptation:
    adaptation = getattr(module, "_recast", None)
    if adaptation is None:
        _core.raise_error("invalid_argument", "[adapt] the module was not made by recast.adapt()")
    return adaptation


def head_of(module: nn.Module) -> nn.Linear | None:
    """The classifier of a timm network, or None where it has none that is linear."""
    head = module.get_classifier() if hasattr(module, "get_classifier") else None
    return head if isinstance(head, nn.Linear) else None


def _check_same_features(module: nn.Module, adaptation: _core.Adaptation, numbers: dict[str, nn.Parameter]) -> None:
    """One image through both: a network that computes something else than its tensors tell must not be adapted, since
    its tasks would mean something else in the engine."""
    side = adaptation.config["preprocessing"]["size_px"]
    image = torch.linspace(-1, 1, 3 * side * side).reshape(1, 3, side, side)
    reference = next(module.parameters())
    training = module.training
    module.eval()
    with torch.no_grad():
        theirs = module.forward_head(module.forward_features(image.to(reference)), pre_logits=True).float().cpu()
        ours = adaptation.features(image, {name: number.detach().cpu() for name, number in numbers.items()})
    module.train(training)
    far = ours.shape != theirs.shape or (ours - theirs).abs().max() > 1e-3 * ours.abs().max()
    if far and reference.dtype == torch.float32:
        _refuse(f"{type(module).__name__} computes other features than {adaptation.config['architecture']} does here")


def adapt(model: nn.Module, plugs: Iterable[Plug | str] | Plug | str = (), *, target: str | None = None, groups: int = 0,
          templates: int = 0, sets: int = 2, solver: str = "closed", steps: int = 0, rate: float = 0, seed: int = 42,
          directory: ModelDirectory | StrPath | None = None, image_size: int | None = None, inplace: bool = False,
          progress: ProgressFunction | None = None) -> nn.Module:
    """A copy of a timm network (a ViT, ResNet or EfficientNet-Lite0 that recast computes) whose chosen weights are made
    by plug-ins, everything else frozen but its classifier. With exact mimicry (the default) its logits are the
    original's.

    plugs      `recast.plugs` or texts; none: RECAST. Plug-ins that make weights (recast, lora, norm_tuning, finetune).
    target, groups, templates, sets, solver, steps, rate, seed: as recast.mimic(), for plug-ins that need templates.
    directory  take the templates of this model directory instead, which must hold the same network.
    image_size side of the images for the model directory that write_model() writes; a ViT knows its own.
    inplace    change the network itself.

    Raises UnsupportedError (a network or plug-in that cannot be adapted), ShapeMismatchError, InvalidArgumentError.
    """
    texts = plug_texts(plugs)
    module = model if inplace else copy.deepcopy(model)
    if directory is not None:
        opened = directory if isinstance(directory, ModelDirectory) else ModelDirectory(directory, read_only=True)
        adaptation = _core.Adaptation.of_directory(opened._core, _plain_state(module), texts, seed)
    else:
        needs = {need for text in texts for need in _core.describe_methods(text.split(":")[0])["methods"][0]["needs"]}
        mimicry = None
        if target is not None or not texts or "bank" in needs:
            mimicry = {"target": target or "", "groups": groups, "templates": templates, "sets": sets,
                       "solver": solver, "steps": steps, "rate": rate}
        config = json.dumps(_config(module, image_size))
        adaptation = _core.Adaptation.of_tensors(_plain_state(module), config, texts, mimicry, seed,
                                                 forwarded(progress))
    _freeze(module)
    for slot, vector, start, trains in adaptation.slots():
        layer, name = _place(module, slot, vector)
        parametrize.register_parametrization(layer, name, SlotWeight(adaptation, slot, start))
        for number, moves in zip(_numbers_at(layer, name).values(), trains.values()):
            number.requires_grad_(moves)
    head = head_of(module)
    if head is not None:
        head.requires_grad_(True)
    module._recast = adaptation  # type: ignore[assignment]
    _check_same_features(module, adaptation, coefficients(module))
    return module


def _numbers_at(layer: nn.Module, name: str) -> dict[str, nn.Parameter]:
    made = layer.parametrizations[name]  # type: ignore[index, union-attr]
    names = made[0].names
    if len(names) == 1:
        return {names[0]: made.original}
    return {full: getattr(made, f"original{i}") for i, full in enumerate(names)}


def coefficients(module: nn.Module) -> dict[str, nn.Parameter]:
    """The numbers of an adapted module: {"recast.c@blocks.0.attn.qkv": [K, B, n], ...}, in depth order. They are its
    parameters: what an optimiser moves."""
    numbers: dict[str, nn.Parameter] = {}
    for slot, vector, _, _ in _adaptation(module).slots():
        path, name = slot.rsplit(".", 1) if vector else (slot, "weight")
        numbers.update(_numbers_at(module.get_submodule(path), name))
    return numbers


def write_model(module: nn.Module, directory: StrPath, *, image_size: int | None = None,
                force: bool = False) -> ModelDirectory:
    """Writes a network as a new model directory, and opens it: the frozen half of an adapted module with its templates,
    or a network of timm as it is (then `image_size` as in adapt(); its classifier is left out).

    Raises AlreadyExistsError without force, UnsupportedError.
    """
    adaptation = getattr(module, "_recast", None)
    if adaptation is None:
        adaptation = _core.Adaptation.of_tensors(_plain_state(module), json.dumps(_config(module, image_size)), [], None,
                                                 0, None)
        _check_same_features(module, adaptation, {})
    adaptation.write(os.fspath(directory), force)
    return ModelDirectory(directory)


def _opened(directory: ModelDirectory | StrPath) -> ModelDirectory:
    return directory if isinstance(directory, ModelDirectory) else ModelDirectory(directory)


def save_task(module: nn.Module, directory: ModelDirectory | StrPath, task: str, labels: Sequence[str]) -> int:
    """Stores an adapted module's numbers and classifier as the next version of a task in the model directory of the same
    network; returns the version. The program and recast.open() then compute what the module computes.

    Raises ShapeMismatchError: another network, a frozen tensor that was changed, or labels that do not count the
    classifier's rows;  InvalidArgumentError: no linear classifier, or a bad name.
    """
    adaptation, head = _adaptation(module), head_of(module)
    if head is None:
        _core.raise_error("invalid_argument", "[adapt] the module has no linear classifier to store")
    assert head is not None
    adaptation.require_frozen(_plain_state(module))
    bias = head.bias if head.bias is not None else torch.zeros(head.out_features)
    numbers = {name: number.detach().cpu() for name, number in coefficients(module).items()}
    return adaptation.commit(_opened(directory)._core, task, list(labels), numbers, head.weight.detach().cpu(),
                             bias.detach().cpu())


def load_task(module: nn.Module, directory: ModelDirectory | StrPath, task: str) -> dict[str, Any]:
    """Puts a stored task ("NAME", "NAME:VERSION", "NAME:TAG") into an adapted module: numbers and classifier, which gets
    as many rows as the task has labels. Returns the task's record as `tasks.show()` has it.

    Raises NotFoundError; ShapeMismatchError: another network, or other plug-ins;  UnsupportedError: its head is not
    linear.
    """
    opened = _opened(directory)
    numbers, weight, bias = _adaptation(module).stored(opened._core, task)
    head = head_of(module)
    if head is None or head.out_features != weight.shape[0] or head.bias is None:
        module.reset_classifier(weight.shape[0])
        head = head_of(module)
        assert head is not None
        reference = next(iter(coefficients(module).values()), None)
        if reference is not None:
            head.to(reference.device, reference.dtype)
    with torch.no_grad():
        for name, number in coefficients(module).items():
            number.copy_(numbers[name])
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    return opened.tasks.show(task)
