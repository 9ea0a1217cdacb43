"""EfficientNet V1, V2-B0 and Lite as a table of stages (spec section 2), with timm's parameter names.

Only the part up to a tap is built; the padding is selectable: `same`, `same456`, `symmetric`.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from . import generator, operators


@dataclass(frozen=True)
class Block:
    """One block: `kind` is "separable" (no expansion), "inverted", "fused" or "plain" (fused without expansion)."""

    name: str
    kind: str
    inputs: int
    outputs: int
    expand: int
    kernel: int
    stride: int
    squeezed: bool  # has it squeeze-and-excite?


# (expand, channels, blocks, stride, kernel) of B0.
V1_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
V1_SCALES = {"b0": (1.0, 1.0), "b5": (1.6, 2.2)}
# No squeeze-and-excite, ReLU6; neither the stem's width nor the first and last stage's depth is scaled.
LITE_SCALES = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2), "lite3": (1.2, 1.4), "lite4": (1.4, 1.8)}
# Side of the pictures that a model was designed for: `same456` pads for it.
NATIVE = {"b0": 224, "b5": 456, "v2-b0": 224, "lite0": 224, "lite1": 240, "lite2": 260, "lite3": 280, "lite4": 300}
# (kind, expand, channels, blocks, stride, kernel); width already rounded, squeeze-and-excite where inverted.
V2_B0_STAGES = (
    ("plain", 1, 16, 1, 1, 3),
    ("fused", 4, 32, 2, 2, 3),
    ("fused", 4, 48, 2, 2, 3),
    ("inverted", 4, 96, 3, 2, 3),
    ("inverted", 6, 112, 5, 1, 3),
    ("inverted", 6, 192, 8, 2, 3),
)


def round_channels(value):
    """To a multiple of 8, never more than 10 % below."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def table(model, stages=6):
    """(stem channels, blocks) of "b0", "b5", "v2-b0", "lite0" to "lite4", up to stage `stages` (1-based)."""
    if model == "v2-b0":
        stem, rows = 32, V2_B0_STAGES
    else:
        lite = model in LITE_SCALES
        width, depth = (LITE_SCALES if lite else V1_SCALES)[model]
        stem = 32 if lite else round_channels(32 * width)
        ends = (0, len(V1_STAGES) - 1) if lite else ()
        rows = [
            (
                "inverted" if e > 1 else "separable",
                e,
                round_channels(c * width),
                n if place in ends else math.ceil(n * depth),
                s,
                k,
            )
            for place, (e, c, n, s, k) in enumerate(V1_STAGES)
        ]
    blocks, inputs = [], stem
    for stage, (kind, expand, outputs, count, stride, kernel) in enumerate(rows[:stages]):
        for index in range(count):
            blocks.append(
                Block(
                    f"blocks.{stage}.{index}",
                    kind,
                    inputs,
                    outputs,
                    expand,
                    kernel,
                    stride if index == 0 else 1,
                    kind in ("inverted", "separable") and model not in LITE_SCALES,
                )
            )
            inputs = outputs
    return stem, blocks


def paddings(rule, kernel, stride, height, width, fixed):
    """[top, bottom, left, right] of one convolution; `fixed` is the side that same456 believes in."""
    if rule == "symmetric":
        return [kernel // 2] * 4
    sides = []
    for size in (fixed, fixed) if rule == "same456" else (height, width):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return sides


class EfficientNet(nn.Module):
    """Pixels N,3,H,W -> features of the last block; `taps` receives the stem and the last block of each stage."""

    def __init__(self, model, stages=6, padding="same"):
        super().__init__()
        self.padding, self.native = padding, NATIVE[model]
        self.activation = F.relu6 if model in LITE_SCALES else F.silu
        stem, self.table = table(model, stages)
        self.layers = nn.ModuleDict()
        self._conv("conv_stem", 3, stem, 3)
        self._norm("bn1", stem)
        for block in self.table:
            self._block(block)

    def _conv(self, name, inputs, outputs, kernel, groups=1, bias=False):
        self.layers[name.replace(".", "/")] = nn.Conv2d(inputs, outputs, kernel, groups=groups, bias=bias)

    def _norm(self, name, channels):
        self.layers[name.replace(".", "/")] = nn.BatchNorm2d(channels, eps=1e-3)

    def _block(self, b):
        middle, squeezed = b.inputs * b.expand, max(1, b.inputs // 4)
        if b.kind == "plain":
            self._conv(f"{b.name}.conv", b.inputs, b.outputs, b.kernel)
            self._norm(f"{b.name}.bn1", b.outputs)
            return
        if b.kind == "fused":
            self._conv(f"{b.name}.conv_exp", b.inputs, middle, b.kernel)
            self._norm(f"{b.name}.bn1", middle)
            self._conv(f"{b.name}.conv_pwl", middle, b.outputs, 1)
            self._norm(f"{b.name}.bn2", b.outputs)
            return
        if b.kind == "inverted":
            self._conv(f"{b.name}.conv_pw", b.inputs, middle, 1)
            self._norm(f"{b.name}.bn1", middle)
        depth_norm, project, project_norm = names_of(b)
        self._conv(f"{b.name}.conv_dw", middle, middle, b.kernel, groups=middle)
        self._norm(f"{b.name}.{depth_norm}", middle)
        if b.squeezed:
            self._conv(f"{b.name}.se.conv_reduce", middle, squeezed, 1, bias=True)
            self._conv(f"{b.name}.se.conv_expand", squeezed, middle, 1, bias=True)
        self._conv(f"{b.name}.{project}", middle, b.outputs, 1)
        self._norm(f"{b.name}.{project_norm}", b.outputs)

    def layer(self, name):
        return self.layers[name.replace(".", "/")]

    def conv(self, x, name, stride=1, fixed=0):
        layer = self.layer(name)
        kernel = layer.kernel_size[0]
        padding = paddings(self.padding, kernel, stride, *x.shape[2:], fixed)
        return operators.conv2d(x, layer.weight, layer.bias, stride, padding, groups=layer.groups)

    def run_block(self, x, b, fixed):
        name, shortcut = b.name, x
        if b.kind == "plain":
            x = self.activation(self.layer(f"{name}.bn1")(self.conv(x, f"{name}.conv", b.stride, fixed)))
        elif b.kind == "fused":
            x = self.activation(self.layer(f"{name}.bn1")(self.conv(x, f"{name}.conv_exp", b.stride, fixed)))
            x = self.layer(f"{name}.bn2")(self.conv(x, f"{name}.conv_pwl"))
        else:
            if b.kind == "inverted":
                x = self.activation(self.layer(f"{name}.bn1")(self.conv(x, f"{name}.conv_pw")))
            depth_norm, project, project_norm = names_of(b)
            x = self.activation(self.layer(f"{name}.{depth_norm}")(self.conv(x, f"{name}.conv_dw", b.stride, fixed)))
            if b.squeezed:
                gate = F.silu(self.conv(x.mean(dim=(2, 3), keepdim=True), f"{name}.se.conv_reduce"))
                x = x * torch.sigmoid(self.conv(gate, f"{name}.se.conv_expand"))
            x = self.layer(f"{name}.{project_norm}")(self.conv(x, f"{name}.{project}"))
        return x + shortcut if b.stride == 1 and b.inputs == b.outputs else x

    def forward(self, x, taps=None):
        fixed = self.native
        x = self.activation(self.layer("bn1")(self.conv(x, "conv_stem", 2, fixed)))
        fixed = math.ceil(fixed / 2)
        if taps is not None:
            taps["stem"] = x
        for place, block in enumerate(self.table):
            x = self.run_block(x, block, fixed)
            fixed = math.ceil(fixed / block.stride)
            last = (
                place + 1 == len(self.table)
                or self.table[place + 1].name.split(".")[1] != block.name.split(".")[1]
            )
            if taps is not None and last:
                taps[f"stage{int(block.name.split('.')[1]) + 1}"] = x
        return x

    def named(self):
        """(timm's name, tensor) of every parameter and running statistic."""
        for key, layer in self.layers.items():
            for name, value in layer.state_dict().items():
                if "num_batches" not in name:
                    yield f"{key.replace('/', '.')}.{name}", value


def names_of(block):
    """timm's names of depthwise norm, projection and its norm: shifted by one where nothing expands."""
    return ("bn1", "conv_pw", "bn2") if block.kind == "separable" else ("bn2", "conv_pwl", "bn3")


def seed_parameters(model, prefix):
    """Convolutions: bound sqrt(6 / fan_in), biases 1 / sqrt(fan_in); batch-norm 1 + 0.2 u and 0.1 u."""
    with torch.no_grad():
        for key, layer in model.layers.items():
            name = prefix + key.replace("/", ".")
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.copy_(generator.vector(f"{name}.weight", layer.num_features, 0.2, 1.0))
                layer.bias.copy_(generator.vector(f"{name}.bias", layer.num_features, 0.1))
                continue
            outputs, inputs, kernel, _ = layer.weight.shape
            if layer.groups > 1:
                layer.weight.copy_(
                    generator.depthwise_weight(f"{name}.weight", kernel, outputs, math.sqrt(6.0))
                )
            else:
                layer.weight.copy_(
                    generator.conv_weight(f"{name}.weight", kernel, inputs, outputs, math.sqrt(6.0))
                )
            if layer.bias is not None:
                layer.bias.copy_(
                    generator.vector(f"{name}.bias", outputs, 1.0 / math.sqrt(inputs * kernel * kernel))
                )


def calibrate(model, pixels):
    """Sets every running mean and (unbiased) variance to those of one batch, and leaves the model in eval mode."""
    norms = [layer for layer in model.layers.values() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(pixels)
        for norm in norms:  # the files hold f32
            norm.running_mean.copy_(norm.running_mean.float())
            norm.running_var.copy_(norm.running_var.float())
    return model.eval()
