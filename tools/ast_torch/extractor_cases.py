"""EfficientNets with seeded weights, each stage: B0 and B5 in three paddings, Lite in its own; equal to the libraries."""

import json

import efficientnet_lite_pytorch
import efficientnet_pytorch
import timm
import torch
import torchvision

from . import generator
from .efficientnet import EfficientNet, calibrate, names_of, seed_parameters
from .storage import Store, to_nhwc

SIZES = {"b0": (96, 160), "b5": (128, 128)}
# Sides that `same` pads as for the native size, stage by stage: all that efficientnet_lite_pytorch can.
LITE_SIZES = {"lite0": (96, 160), "lite2": (68, 132), "lite4": (76, 140)}
CALIBRATION = (256, 256)
PADDINGS = ("same", "same456", "symmetric")


def picture(name, size):
    return generator.normalised(generator.picture(name, *size), lite=name.startswith("lite"))


def build(model, padding, stages=6):
    """The seeded, calibrated extractor up to a stage, in f64."""
    network = EfficientNet(model, stages, padding=padding).double()
    seed_parameters(network, f"{model}.")
    pictures = torch.cat([picture(f"{model}.calibration{i}", CALIBRATION) for i in range(2)])
    return calibrate(network, pictures)


def features(network, pixels):
    """Taps of one forward pass."""
    taps = {}
    with torch.no_grad():
        network(pixels, taps)
    return taps


def rename(network, scheme):
    """timm's names -> the names of torchvision or efficientnet_pytorch, block by block."""
    parts = {
        "torchvision": {"conv_stem": "features.0.0", "bn1": "features.0.1"},
        "efficientnet_pytorch": {"conv_stem": "_conv_stem", "bn1": "_bn0"},
    }[scheme]
    for place, b in enumerate(network.table):
        depth_norm, project, project_norm = names_of(b)
        if scheme == "torchvision":
            stage, index = (int(part) for part in b.name.split(".")[1:])
            base, first = f"features.{stage + 1}.{index}.block", int(b.kind == "inverted")
            new = {"conv_pw": "0.0", "bn1": "0.1"} if first else {}
            new |= {
                "conv_dw": f"{first}.0",
                depth_norm: f"{first}.1",
                "se.conv_reduce": f"{first + 1}.fc1",
                "se.conv_expand": f"{first + 1}.fc2",
                project: f"{first + 2}.0",
                project_norm: f"{first + 2}.1",
            }
        else:
            base = f"_blocks.{place}"
            new = {"conv_pw": "_expand_conv", "bn1": "_bn0"} if b.kind == "inverted" else {}
            new |= {
                "conv_dw": "_depthwise_conv",
                depth_norm: "_bn1",
                "se.conv_reduce": "_se_reduce",
                "se.conv_expand": "_se_expand",
                project: "_project_conv",
                project_norm: "_bn2",
            }
        parts |= {f"{b.name}.{old}": f"{base}.{value}" for old, value in new.items()}
    for name, value in network.named():
        layer, leaf = name.rsplit(".", 1)
        yield f"{parts[layer]}.{leaf}", value


def load(peer, named):
    """Loads the extractor's tensors; the peer may have more (its head), never fewer. Eval mode, f64.

    torchvision gives B0 to B4 an epsilon of 1e-5 (B5 to B7, and the two others throughout, 1e-3); here all get 1e-3.
    """
    for layer in peer.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eps = 1e-3
    result = peer.double().load_state_dict(dict(named), strict=False)
    if result.unexpected_keys:
        raise SystemExit(f"names that the peer lacks: {result.unexpected_keys}")
    return peer.eval()


def peer_features(model, network, pixels):
    """The same features from the library that has this padding."""
    if model in LITE_SIZES:
        peer = efficientnet_lite_pytorch.EfficientNet.from_name(f"efficientnet-{model}")
        return blocks_of(load(peer, rename(network, "efficientnet_pytorch")), network, pixels)
    if network.padding == "same":
        peer = load(timm.create_model(f"tf_efficientnet_{model}"), network.named())
        return peer.blocks[:6](peer.bn1(peer.conv_stem(pixels)))
    if network.padding == "symmetric":
        peer = load(getattr(torchvision.models, f"efficientnet_{model}")(), rename(network, "torchvision"))
        return peer.features[:7](pixels)
    peer = load(
        efficientnet_pytorch.EfficientNet.from_name(f"efficientnet-{model}"),
        rename(network, "efficientnet_pytorch"),
    )
    return blocks_of(peer, network, pixels)


def blocks_of(peer, network, pixels):
    """Of efficientnet_pytorch or its copy: the features after as many blocks as `network` has."""
    x = peer._swish(peer._bn0(peer._conv_stem(pixels)))
    for block in peer._blocks[: len(network.table)]:
        x = block(x)
    return x


@torch.no_grad()
def check_peer(model, network, pixels, ours):
    """Stops unless the library agrees with the plain implementation; prints the deviation and the error of f32."""
    theirs = peer_features(model, network, pixels)
    difference = ((ours - theirs).norm() / theirs.norm()).item()
    single = network.float()(pixels.float()).double()
    network.double()
    print(
        f"  {model} {network.padding}: deviation {ours.std():.3f}; from f32 {(single - ours).norm() / ours.norm():.1e}; "
        f"from the library {difference:.1e}",
        flush=True,
    )
    if difference > 1e-10:
        raise SystemExit(f"{model} {network.padding}: the library disagrees")


def write(folder):
    """efficientnet.safetensors"""
    store = Store("EfficientNet-B0 and B5 to the end of stage 6, computed in f64")
    store.metadata["settings"] = json.dumps(
        {
            "sizes": SIZES,
            "paddings": PADDINGS,
            "bn_eps": 1e-3,
            "note": "torchvision's own B0 to B4 have eps 1e-5; these files use 1e-3 throughout",
            "parameters": "generator name = 'b0.' or 'b5.' + timm's tf_efficientnet name; conv bound sqrt(6/fan_in), bias bound 1/sqrt(fan_in), "
            "batch-norm weight = offset 1 bound 0.2, bias = bound 0.1; fan_in = kh*kw*C_in (depthwise kh*kw)",
            "running_statistics": "stored as MODEL.PADDING.LAYER.running_mean / running_var, made with that padding; b5.768.same uses those of b5.same",
            "input": "picture(name, H, W) with name MODEL.picture (or b5.picture768): p = 0.5 + 0.25 sin(0.11x+0.07y+c) + 0.15 cos(0.031xy/H) + 0.1(u-0.5), "
            "u = uniform value of row-major element [y,x,c]; pixel = floor(255 clamp(p,0,1) + 0.5); then (pixel/255 - mean)/std of ImageNet",
            "taps": "MODEL.PADDING.stem (after SiLU), .stage1 ... .stage6 (after the stage's last block); B5 at 768x768: b5.768.same.*",
            "same456": "padding computed as if the input's side were the model's native one, as efficientnet_pytorch does: "
            "456 for B5 (sides 456, 228, 114, 57, 29), 224 for B0 (224, 112, 56, 28, 14)",
        }
    )
    for model, size in SIZES.items():
        for padding in PADDINGS:
            network = build(model, padding)
            for name, value in network.named():
                if "running" in name:
                    store.add(f"{model}.{padding}.{name}", value.numpy())
            pixels = picture(f"{model}.picture", size)
            found = features(network, pixels)
            check_peer(model, network, pixels, found["stage6"])
            for name, value in found.items():
                store.add_sampled(f"{model}.{padding}.{name}", to_nhwc(value))
            if (model, padding) == ("b5", "same"):
                for name, value in features(network, picture("b5.picture768", (768, 768))).items():
                    store.add_sampled(f"b5.768.same.{name}", to_nhwc(value))
    store.write(folder / "efficientnet.safetensors")


def write_lite(folder):
    """efficientnet_lite.safetensors"""
    store = Store("EfficientNet-Lite0, 2 and 4, all seven stages, computed in f64")
    store.metadata["settings"] = json.dumps(
        {
            "sizes": LITE_SIZES,
            "bn_eps": 1e-3,
            "parameters": "as in efficientnet.safetensors, generator name = 'lite0.' ... + timm's tf_efficientnet_lite name",
            "input": "as in efficientnet.safetensors, but (pixel - 127) / 128",
            "taps": "MODEL.same.stem (after ReLU6), .stage1 ... .stage7 (after the stage's last block)",
        }
    )
    for model, size in LITE_SIZES.items():
        network = build(model, "same", stages=7)
        for name, value in network.named():
            if "running" in name:
                store.add(f"{model}.same.{name}", value.numpy())
        pixels = picture(f"{model}.picture", size)
        found = features(network, pixels)
        check_peer(model, network, pixels, found["stage7"])
        for name, value in found.items():
            store.add_sampled(f"{model}.same.{name}", to_nhwc(value))
    store.write(folder / "efficientnet_lite.safetensors")


def shapes_of(peer):
    """Names and shapes of a state dict."""
    return {name: list(value.shape) for name, value in peer.state_dict().items()}


def write_state_dicts(folder):
    """state_dicts.json: names and shapes of the full state dicts (shapes as PyTorch has them)."""
    dicts = {}
    for model in LITE_SIZES:
        peers = {
            "timm": timm.create_model(f"tf_efficientnet_{model}"),
            "efficientnet_pytorch": efficientnet_lite_pytorch.EfficientNet.from_name(f"efficientnet-{model}"),
        }
        dicts |= {f"{scheme} {model}": shapes_of(peer) for scheme, peer in peers.items()}
    for model in SIZES:
        peers = {
            "timm": timm.create_model(f"tf_efficientnet_{model}"),
            "torchvision": getattr(torchvision.models, f"efficientnet_{model}")(),
            "efficientnet_pytorch": efficientnet_pytorch.EfficientNet.from_name(f"efficientnet-{model}"),
        }
        for scheme, peer in peers.items():
            dicts[f"{scheme} {model}"] = shapes_of(peer)
    lines = []
    for title, shapes in dicts.items():
        lines.append(f"{json.dumps(title)}: {json.dumps(shapes, separators=(',', ':'))}")
    (folder / "state_dicts.json").write_text(
        '{"made_by": "tools/reference.py",\n' + ",\n".join(lines) + "}\n"
    )
    print(f"state_dicts.json: {(folder / 'state_dicts.json').stat().st_size / 1e3:.0f} kB", flush=True)
