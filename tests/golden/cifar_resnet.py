"""The CIFAR ResNets of He et al. (arXiv:1512.03385, section 4.2) under the tensor names that their checkpoints carry.

`pad` is the paper's option A: every second pixel, new channels zero, half of them before the old ones and half after.
`projection` is option B: a 1 x 1 convolution and a batch norm, called `shortcut` or `downsample`.
"""

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, channels_in, channels, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.added = stride, channels - channels_in
        changes = stride != 1 or channels != channels_in
        self.projection = shortcut if changes and shortcut != "pad" else None
        if self.projection:
            pair = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
            setattr(self, shortcut, pair)

    def beside(self, x):
        if self.projection:
            return getattr(self, self.projection)(x)
        kept = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.beside(x))


class CifarResNet(nn.Module):
    """6 n + 2 layers. `classifier` is its name, `shortcut` one of pad, shortcut and downsample."""

    def __init__(self, n, classes, classifier="linear", shortcut="pad"):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        for stage, width in enumerate((16, 32, 64), 1):
            blocks = []
            for b in range(n):
                blocks.append(Block(channels, width, 2 if b == 0 and stage > 1 else 1, shortcut))
                channels = width
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.classifier = classifier
        setattr(self, classifier, nn.Linear(channels, classes))

    def features(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))

    def forward(self, x):
        return getattr(self, self.classifier)(self.features(x))
