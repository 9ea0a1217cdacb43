"""The part that every participant looks at, without PyTorch: the lean peers import nothing more than this."""

import numpy as np
from PIL import Image

SIDE, PARTS = 768, 8
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def picture_file(folder, small=False):
    return folder / ("small.png" if small else f"data/test/good/rgb/{PARTS}.png")


def depth_file(folder):
    return folder / f"data/test/good/depth/{PARTS}.png"


def picture(folder):
    """8 bit [1024,1024,3], as it comes from the decoder."""
    return np.asarray(Image.open(picture_file(folder)).convert("RGB"))


def depth(folder):
    """Depth map of 800², metres, 0 where it is missing."""
    return np.asarray(Image.open(depth_file(folder))) * 1e-4


def pixels(decoded):
    """Decoded picture -> normalised [1,3,768,768]."""
    resized = np.asarray(Image.fromarray(decoded).resize((SIDE, SIDE), Image.BILINEAR))
    value = (resized.astype(np.float32) / np.float32(255.0) - MEAN) / DEVIATION
    return np.ascontiguousarray(value.transpose(2, 0, 1)[None])


def of_network(work, folder):
    """What the network takes: pixels, and for RGB+3D the depth map and mask that `prepare` made."""
    arrays = (pixels(picture(folder)),)
    if work == "predict-3d":
        with np.load(folder / "depth.npz") as made:
            arrays += (made["depth"], made["mask"])
    return arrays


def score(work, large, low):
    """The image score of the preset: mean of the map at 24² (2D), maximum of the map at 192² (3D)."""
    return float(low.mean() if work == "predict-2d" else large.max())
