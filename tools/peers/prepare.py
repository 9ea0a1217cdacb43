"""What every participant reads: backbone weights, a small data set, and the models that astray made of them.

Two models of the paper's presets, each trained for one step: the weights are as good as random, the work is that of
a real model, and PyTorch reads the same files, so that outputs can be compared.
"""

import pathlib
import subprocess
import sys

import numpy as np
import timm
import torch
from ast_torch import generator
from PIL import Image
from safetensors.torch import save_file

from . import depth_loops, inputs, models

MODELS = {"2d": ("mvtec2d", "rgb"), "3d": ("mvtec3d", "rgb+depth")}
SMALL = "small"  # a model of the preset tiny for pictures of 256 pixels


def calibrate(network, pixels):
    """Running statistics of one batch: a plainly random network loses its signal with depth."""
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(pixels)
    return network.eval()


def backbone(path):
    """EfficientNet-B5 with seeded weights under timm's names."""
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_b5", drop_rate=0.0, drop_path_rate=0.0)
    pixels = generator.normalised(generator.picture("peers.calibration", 768, 768)).float()
    calibrate(network, torch.cat([pixels, pixels.flip(3)]))
    wanted = ("conv_stem.", "bn1.", *(f"blocks.{stage}." for stage in range(6)))
    state = {name: value for name, value in network.state_dict().items() if name.startswith(wanted)}
    save_file({name: value for name, value in state.items() if "num_batches" not in name}, path)


def depth_map(seed, side=800):
    """[side, side] 16-bit depth in tenths of a millimetre: a part on a tilted table, 15 % of it holes."""
    y, x = np.mgrid[0:side, 0:side]
    noise = generator.uniform(f"peers.depth.{seed}", side * side).reshape(side, side)
    z = 500.0 + 0.02 * x - 0.01 * y + noise
    z -= 20.0 * ((x - side / 2) ** 2 + (y - side / 2) ** 2 < (side / 4) ** 2)
    holes = generator.uniform(f"peers.holes.{seed}", side * side).reshape(side, side) < 0.15
    return np.where(holes, 0, 10.0 * z).astype(np.uint16)


def data_set(folder):
    """Good parts to learn from and one to test, each a picture of 1024² and a depth map of 800²."""
    places = [("train", n) for n in range(inputs.PARTS)] + [("test", inputs.PARTS)]
    for split, number in places:
        for kind in ("rgb", "depth"):
            (folder / split / "good" / kind).mkdir(parents=True, exist_ok=True)
        part = folder / split / "good"
        Image.fromarray(generator.picture(f"peers.{number}", 1024, 1024)).save(part / f"rgb/{number}.png")
        Image.fromarray(depth_map(number)).save(part / f"depth/{number}.png")


def train(program, folder, out, *options):
    """One epoch; `astray` speaks only if it fails."""
    command = [program, "train", folder / "data", "--device", "cpu", "--out", out, *options]
    for key in ("train.teacher_epochs=1", "train.student_epochs=1", "depth.unit_mm=0.1"):
        command += ["--set", key]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}")


def prepare(program, folder):
    """Makes what is missing in `folder`."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "b5.safetensors"
    if not weights.exists():
        backbone(weights)
    if not (folder / "data").exists():
        data_set(folder / "data")
    for name, (preset, modality) in MODELS.items():
        if not (folder / f"model-{name}").exists():
            chosen = ("--preset", preset, "--modality", modality, "--weights", weights)
            train(program, folder, folder / f"model-{name}", *chosen)
    if not (folder / f"model-{SMALL}").exists():
        chosen = ("--preset", "tiny", "--modality", "rgb", "--set", "input.image_size=256")
        chosen += ("--set", "backbone.name=efficientnetv2_b0", "--weights", "seeded")
        train(program, folder, folder / f"model-{SMALL}", *chosen)
    if not inputs.picture_file(folder, small=True).exists():
        Image.fromarray(generator.picture("peers.small", 256, 256)).save(
            inputs.picture_file(folder, small=True)
        )
    if not (folder / "depth.npz").exists():
        depth, mask = depth_loops.by_array(inputs.depth(folder))
        np.savez(folder / "depth.npz", depth=depth, mask=mask)
    for work in ("extractor", "predict-2d", "predict-3d"):
        try:
            export(work, folder)
        except ImportError as error:
            print(f"{work}: no ONNX file, so no ONNX Runtime and no OpenVINO: {error}", flush=True)


def export(work, folder):
    """The ONNX file of a work, for ONNX Runtime and OpenVINO."""
    path = folder / f"{work}.onnx"
    if not path.exists():
        arrays = inputs.of_network(work, folder)
        net = models.network(work, folder)
        torch.onnx.export(net, tuple(map(torch.from_numpy, arrays)), path, external_data=False)


if __name__ == "__main__":
    prepare(*sys.argv[1:])
