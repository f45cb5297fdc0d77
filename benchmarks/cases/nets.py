"""Torch modules with random but seeded weights; the project of a case holds a copy of this file as its factory."""

# mypy: disable-error-code="misc"
# torch's types are skipped, so each nn.Module below would be an untyped base class.

import torch  # noqa: TID253 - only projects of torch models import this file
from torch import nn  # noqa: TID253 - as above

_WIDTHS = (16, 32, 64, 128, 256)
_CLASSES = 4


class Conv(nn.Module):
    """Convolve, normalize, SiLU."""

    def __init__(self, inner: int, outer: int, size: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, size, stride, size // 2, bias=False)
        self.norm = nn.BatchNorm2d(outer)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Halve height and width where the stride is 2."""
        return nn.functional.silu(self.norm(self.conv(features)))


class Bottleneck(nn.Module):
    """Convolve twice, 3 x 3, beside a shortcut."""

    def __init__(self, width: int, *, adds: bool) -> None:
        super().__init__()
        self.first, self.second = Conv(width, width, 3), Conv(width, width, 3)
        self.adds = adds

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Keep the shape."""
        made = self.second(self.first(features))
        return features + made if self.adds else made


class Split(nn.Module):
    """Go two ways, one of them through bottlenecks, and join every part: a C2f block with two convolutions for its
    chunk."""

    def __init__(self, inner: int, outer: int, *, depth: int = 1, adds: bool = True) -> None:
        super().__init__()
        half = outer // 2
        self.left, self.right = Conv(inner, half), Conv(inner, half)
        self.blocks = nn.ModuleList(Bottleneck(half, adds=adds) for _ in range(depth))
        self.join = Conv((2 + depth) * half, outer)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Keep height and width."""
        parts = [self.left(features), self.right(features)]
        for block in self.blocks:
            parts.append(block(parts[-1]))
        joined: torch.Tensor = self.join(torch.cat(parts, 1))
        return joined


class Pool(nn.Module):
    """Pool at three sizes by pooling 5 x 5 three times (SPPF)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shrink, self.join = Conv(width, width // 2), Conv(width * 2, width)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Keep the shape."""
        parts = [self.shrink(features)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        joined: torch.Tensor = self.join(torch.cat(parts, 1))
        return joined


class Head(nn.Module):
    """Give boxes and classes of one level, each through convolutions of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.boxes = nn.Sequential(Conv(width, 64, 3), Conv(64, 64, 3), nn.Conv2d(64, 4, 1))
        self.classes = nn.Sequential(Conv(width, 64, 3), Conv(64, 64, 3), nn.Conv2d(64, _CLASSES, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Give [batch, 4 + classes, cells]."""
        return torch.cat([self.boxes(features), self.classes(features)], 1).flatten(2)


class Detector(nn.Module):
    """Be a detector in the manner of YOLOv8n: backbone, a path up and down, three heads; everything in 0..1."""

    def __init__(self) -> None:
        super().__init__()
        first, *rest = _WIDTHS
        self.stem = Conv(3, first, 3, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(Conv(inner, outer, 3, 2), Split(outer, outer, depth=depth))
            for inner, outer, depth in zip(_WIDTHS, rest, (1, 2, 2, 1), strict=False)
        )
        self.pool = Pool(256)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.up4, self.up3 = Split(256 + 128, 128, adds=False), Split(128 + 64, 64, adds=False)
        self.down3, self.down4 = Conv(64, 64, 3, 2), Conv(128, 128, 3, 2)
        self.out4, self.out5 = Split(64 + 128, 128, adds=False), Split(128 + 256, 256, adds=False)
        self.heads = nn.ModuleList(Head(width) for width in (64, 128, 256))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give [batch, 8, 8400] for pictures [batch, 3, 640, 640] of 0..255."""
        features = self.stem(images / 255.0)
        levels = []
        for stage in self.stages:
            features = stage(features)
            levels.append(features)
        level3, level4, level5 = levels[1], levels[2], self.pool(levels[3])
        up4 = self.up4(torch.cat([self.up(level5), level4], 1))
        out3 = self.up3(torch.cat([self.up(up4), level3], 1))
        out4 = self.out4(torch.cat([self.down3(out3), up4], 1))
        out5 = self.out5(torch.cat([self.down4(out4), level5], 1))
        parts = [head(level) for head, level in zip(self.heads, (out3, out4, out5), strict=True)]
        return torch.sigmoid(torch.cat(parts, 2))


class Classifier(nn.Module):
    """Be a small net that takes any batch: three convolutions, pooling, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(Conv(3, 16, 3, 2), Conv(16, 32, 3, 2), Conv(32, 64, 3, 2))
        self.answer = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give [batch, 10] logits for pictures [batch, 3, 64, 64]."""
        logits: torch.Tensor = self.answer(self.features(images).mean((2, 3)))
        return logits


def make_detector() -> nn.Module:
    """Make the detector, its weights not yet loaded."""
    return Detector()


def make_classifier() -> nn.Module:
    """Make the classifier, its weights not yet loaded."""
    return Classifier()


def settle(module: nn.Module, images: torch.Tensor, *, seed: int) -> nn.Module:
    """Draw the weights and let each normalization see what it will meet, with a scale and shift of its own."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        if parameter.dim() > 1:
            fan_in = parameter[0].numel()
            parameter.data.normal_(0, (2.0 / fan_in) ** 0.5, generator=generator)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.uniform_(0.8, 1.0, generator=generator)
            layer.bias.data.uniform_(0.2, 0.6, generator=generator)
            layer.momentum = None  # a plain average over the calls that follow
    module.train()
    with torch.no_grad():
        module(images)
    return module.eval()
