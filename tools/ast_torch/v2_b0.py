"""EfficientNetV2-B0 with the Keras-named ImageNet weights, on the plain implementation."""

import torch
from safetensors.torch import load_file

from .efficientnet import EfficientNet


def keras_name(name):
    """timm-like name of a tensor -> the name in the weight file (block1a, block2b ...)."""
    layer, leaf = name.rsplit(".", 1)
    top = {"conv_stem": "stem_conv", "bn1": "stem_bn"}
    if layer in top:
        return f"{top[layer]}.{leaf}"
    _, stage, index, part = layer.split(".", 3)
    parts = {
        "plain": {"conv": "project_conv", "bn1": "project_bn"},
        "fused": {
            "conv_exp": "expand_conv",
            "bn1": "expand_bn",
            "conv_pwl": "project_conv",
            "bn2": "project_bn",
        },
        "inverted": {
            "conv_pw": "expand_conv",
            "bn1": "expand_bn",
            "conv_dw": "dwconv2",
            "bn2": "bn",
            "se.conv_reduce": "se_reduce",
            "se.conv_expand": "se_expand",
            "conv_pwl": "project_conv",
            "bn3": "project_bn",
        },
    }[("plain", "fused", "fused", "inverted", "inverted", "inverted")[int(stage)]]
    return f"block{int(stage) + 1}{'abcdefgh'[int(index)]}_{parts[part]}.{leaf}"


def load(path):
    """The extractor up to block6h, eval mode, f32; every tensor of the file must be used."""
    network = EfficientNet("v2-b0").eval()
    stored = load_file(path)
    for name, value in network.named():
        tensor = stored.pop(keras_name(name))
        if tensor.shape != value.shape:
            raise SystemExit(
                f"{path}: {keras_name(name)} has shape {tuple(tensor.shape)}, expected {tuple(value.shape)}"
            )
        value.copy_(tensor)
    if stored:
        raise SystemExit(f"{path}: unused tensors {sorted(stored)}")
    return network


@torch.no_grad()
def check(network, golden):
    """Relative error of each golden activation (they were made elsewhere, with Keras): name -> error."""
    expected = load_file(golden)
    pixels = expected["input_rgb_0_255_nhwc"].double() / 255.0
    pixels = (pixels - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    taps = {}
    network(pixels.permute(0, 3, 1, 2).float(), taps)
    names = {
        "stem": "stem_activation",
        "stage1": "block1a_project_activation",
        "stage2": "block2b_add",
        "stage3": "block3b_add",
        "stage4": "block4c_add",
        "stage5": "block5e_add",
        "stage6": "block6h_add",
    }
    return {
        name: ((taps[tap].permute(0, 2, 3, 1) - expected[name]).norm() / expected[name].norm()).item()
        for tap, name in names.items()
    }
