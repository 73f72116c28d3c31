"""Adapters beside small networks, written down independently of the C++: plain PyTorch in double, autograd
differentiates.

question: of each case, metadata CASE: JSON {network, method}, see NETWORKS and METHODS; "CASE/input" [B, 3, S, S],
          "CASE/direction" (the gradient of the features), "CASE/own/NAME" (the backbone's tensors), "CASE/number/NAME"
          (the plug-ins').
answer:   "CASE/features", "CASE/gradient/NAME" of every number that learns, "CASE/next/NAME" of those that follow the
          batches."""
import json
import sys

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file


class Untouched:
    """The backbone alone: what a method changes, it overrides."""

    def __init__(self, options, numbers):
        self.options, self.numbers, self.next = options, numbers, {}

    def of(self, family, place):
        return self.numbers.get(f"{family}@{place}")

    def weight(self, name, own):
        return own

    def block(self, name, middle, out):
        """A transformer block's output; middle: its residual between attention and MLP."""
        return out

    def statistics(self, name, x, own):
        """By which the batch norm `name` normalises x."""
        return own(name + ".running_mean"), own(name + ".running_var")

    def normalised(self, name, x, own, eps):
        """A batch norm behind the convolution that gave x, and CLR's kernels between the two where there are any."""
        kernel = self.of("k", name)
        if kernel is not None:
            side = kernel.shape[-1]
            padded = F.pad(x, [side // 2] * 4)
            x = sum(padded[:, :, i:i + x.shape[2], j:j + x.shape[3]] * kernel[:, 0, i, j].view(1, -1, 1, 1)
                    for i in range(side) for j in range(side))
        mean, var = (t.view(1, -1, 1, 1) for t in self.statistics(name, x, own))
        gain, bias = (own(name + end).view(1, -1, 1, 1) for end in (".weight", ".bias"))
        return (x - mean) / (var + eps).sqrt() * gain + bias


class AdaptFormer(Untouched):
    def block(self, name, middle, out):
        inner = torch.relu(middle @ self.of("down", name).T + self.of("down_bias", name))
        return out + self.options["scale"] * (inner @ self.of("up", name).T + self.of("up_bias", name))


class Step(torch.autograd.Function):
    """1 above the threshold, 0 elsewhere; the gradient passes as if it were the identity."""

    @staticmethod
    def forward(context, score, threshold):
        return (score > threshold).to(score.dtype)

    @staticmethod
    def backward(context, gradient):
        return gradient, None


class Piggyback(Untouched):
    def weight(self, name, own):
        score = self.of("score", name)
        return own if score is None else own * Step.apply(score, self.options["threshold"])


class BatchNorm(Untouched):
    def statistics(self, name, x, own):
        old_mean, old_var = self.of("mean", name), self.of("var", name)
        if not self.options["train"]:
            return old_mean, old_var
        count, share = x.numel() / x.shape[1], self.options["momentum"]
        mean = x.mean((0, 2, 3))
        var = ((x - mean.view(1, -1, 1, 1)) ** 2).mean((0, 2, 3))
        self.next[f"mean@{name}"] = (1 - share) * old_mean + share * mean
        self.next[f"var@{name}"] = (1 - share) * old_var + share * var * count / (count - 1)
        return mean, var


def vit(x, own, shape, method):
    """Tokens: the class token and a grid of patches; attention and MLP with norms before them."""
    B, p, D, H = x.shape[0], shape["patch"], shape["width"], shape["heads"]

    def linear(name, x):
        return x @ method.weight(name, own(name + ".weight")).flatten(1).T + own(name + ".bias")

    def norm(name, x):
        return F.layer_norm(x, [D], own(name + ".weight"), own(name + ".bias"), shape["eps"])

    def scaled(name, x):
        return x * own(name) if shape["layer_scale"] else x

    patches = F.unfold(x, p, stride=p).transpose(1, 2)
    patches = linear("patch_embed", patches) + own("positions").flatten(0, 1)
    x = torch.cat([(own("class_token") + own("class_position")).expand(B, 1, D), patches], 1)
    for n in range(shape["depth"]):
        name = f"blocks.{n}"
        q, k, v = linear(f"{name}.attn.qkv", norm(f"{name}.norm1", x)).view(B, -1, 3, H, D // H).permute(2, 0, 3, 1, 4)
        seen = torch.softmax(q @ k.transpose(-1, -2) / (D // H) ** 0.5, -1) @ v
        attended = linear(f"{name}.attn.proj", seen.transpose(1, 2).reshape(B, -1, D))
        middle = x + scaled(f"{name}.attn.scale", attended)
        mlp = linear(f"{name}.mlp.fc2", F.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", middle))))
        x = method.block(name, middle, middle + scaled(f"{name}.mlp.scale", mlp))
    return norm("norm", x)[:, 0]


def cnn(x, own, shape, method):
    """ResNets (blocks basic, bottleneck) and EfficientNets without squeeze-and-excitation (separable, inverted)."""
    resnet = shape["stages"][0]["block"] in ("basic", "bottleneck")
    activate = F.relu if resnet else F.relu6

    def conv(name, norm, x, stride=1, activated=True):
        w = method.weight(name, own(name + ".weight"))
        k = w.shape[-1]
        if shape["padding"] == "same":  # TensorFlow's: the odd pixel right and below
            lack = [max((-(-side // stride) - 1) * stride + k - side, 0) for side in x.shape[2:]]
            x = F.pad(x, [lack[1] // 2, lack[1] - lack[1] // 2, lack[0] // 2, lack[0] - lack[0] // 2])
        else:
            x = F.pad(x, [k // 2] * 4)
        y = F.conv2d(x, w, stride=stride, groups=x.shape[1] // w.shape[1])
        y = method.normalised(norm, y, own, shape["eps"])
        return activate(y) if activated else y

    convolutions = {  # name, norm, whether it has the block's stride, whether it is activated
        "basic": [("conv1", "bn1", True, True), ("conv2", "bn2", False, False)],
        "bottleneck": [("conv1", "bn1", False, True), ("conv2", "bn2", True, True), ("conv3", "bn3", False, False)],
        "separable": [("conv_dw", "bn1", True, True), ("conv_pw", "bn2", False, False)],
        "inverted": [("conv_pw", "bn1", False, True), ("conv_dw", "bn2", True, True), ("conv_pwl", "bn3", False, False)]}
    x = conv("conv1" if resnet else "conv_stem", "bn1", x, shape["stem_stride"])
    for s, stage in enumerate(shape["stages"]):
        for b in range(stage["blocks"]):
            block = f"layer{s + 1}.{b}." if resnet else f"blocks.{s}.{b}."
            stride = stage["stride"] if b == 0 else 1
            y = x
            for name, norm, strides, activated in convolutions[stage["block"]]:
                y = conv(block + name, block + norm, y, stride if strides else 1, activated)
            if y.shape == x.shape:
                y = y + x
            elif resnet:
                y = y + conv(block + "downsample", block + "downsample_bn", x, stride, False)
            x = activate(y) if resnet else y
    if not resnet:
        x = conv("conv_head", "bn2", x)
    return x.mean((2, 3))


NETWORKS = {"vit": vit, "cnn": cnn}
METHODS = {"adaptformer": AdaptFormer, "piggyback": Piggyback, "clr": Untouched, "batch-norm": BatchNorm}


def solve(network, method, tensors):
    numbers = {name[len("number/"):]: tensor.requires_grad_(name[len("number/"):].split("@")[0] in method["trains"])
               for name, tensor in tensors.items() if name.startswith("number/")}
    at_work = METHODS[method["name"]](method, numbers)
    features = NETWORKS[network["name"]](tensors["input"], lambda name: tensors["own/" + name], network, at_work)
    (features * tensors["direction"]).sum().backward()
    out = {"features": features.detach()}
    out |= {"gradient/" + name: number.grad for name, number in numbers.items() if number.requires_grad}
    return out | {"next/" + name: number.detach() for name, number in at_work.next.items()}


def main(question, answer):
    out = {}
    with safe_open(question, "pt") as file:
        for case, text in file.metadata().items():
            tensors = {name[len(case) + 1:]: file.get_tensor(name).double() for name in file.keys()
                       if name.startswith(case + "/")}
            solved = solve(**json.loads(text), tensors=tensors)
            out |= {f"{case}/{name}": tensor.contiguous() for name, tensor in solved.items()}
    save_file(out, answer)


main(*sys.argv[1:])
