"""Dataset folders -> cached features, depth and masks for the peer programs (spec sections 1, 3, 10)."""

import hashlib
import pathlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

from . import v2_b0

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
FOREGROUND_METRES = 0.007


@dataclass
class Item:
    """One part: its picture, its depth map and ground truth where there are any."""

    rgb: pathlib.Path
    depth: pathlib.Path | None
    truth: pathlib.Path | None
    defective: bool


def images(folder):
    return sorted(p for p in folder.glob("*") if p.suffix.lower() in EXTENSIONS)


def same_stem(folder, stem):
    return next((p for p in images(folder) if p.stem == stem), None)


def scan(folder):
    """(train, test) items of the layouts `split/defect/*` + ground_truth and `split/defect/{rgb,depth,gt}/*`."""
    splits = []
    for split in ("train", "test"):
        items = []
        for group in sorted(p for p in (folder / split).glob("*") if p.is_dir()):
            defective = group.name != "good"
            nested = (group / "rgb").is_dir()
            for picture in images(group / "rgb" if nested else group):
                truth = (
                    same_stem(group / "gt", picture.stem)
                    if nested
                    else folder / "ground_truth" / group.name / f"{picture.stem}_mask.png"
                )
                depth = same_stem(group / "depth", picture.stem) if nested else None
                items.append(Item(picture, depth, truth if defective else None, defective))
        if not items:
            raise SystemExit(f"{folder}/{split}: no images; expected {split}/good/* or {split}/good/rgb/*")
        splits.append(items)
    return splits


def load_rgb(path, side):
    """[1,3,side,side] f32, resized by PIL and normalised."""
    pixels = np.asarray(Image.open(path).convert("RGB").resize((side, side), Image.BILINEAR))
    value = (pixels / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.from_numpy(value.astype(np.float32)).permute(2, 0, 1)[None].contiguous()


def load_truth(item, side):
    """[side, side] bool ground truth, nearest-neighbour resized; all false for a good part."""
    if item.truth is None:
        return np.zeros((side, side), bool)
    return np.asarray(Image.open(item.truth).convert("L").resize((side, side), Image.NEAREST)) > 0


@torch.no_grad()
def features(items, weights, side, cache):
    """[N,C,side/32,side/32] f32 V2-B0 features; kept in the folder `cache`, keyed by files, weights and side."""
    key = hashlib.sha256(
        repr([(str(i.rgb), i.rgb.stat().st_size) for i in items] + [str(weights), side]).encode()
    ).hexdigest()[:16]
    path = cache / f"v2b0-{key}.npy"
    if path.exists():
        return torch.from_numpy(np.load(path))
    network, found = v2_b0.load(weights), []
    for index, item in enumerate(items):
        found.append(network(load_rgb(item.rgb, side)))
        if index % 50 == 49:
            print(f"  features {index + 1}/{len(items)}", flush=True)
    result = torch.cat(found)
    cache.mkdir(parents=True, exist_ok=True)
    np.save(path, result.numpy())
    return result


def fill(z):
    """Three passes of the mean over the valid ones among the 8 neighbours; 0 = missing."""
    kernel = np.ones((3, 3))
    for _ in range(3):
        valid = z > 0
        count = ndimage.convolve(valid.astype(np.float64), kernel, mode="constant")
        total = ndimage.convolve(np.where(valid, z, 0.0), kernel, mode="constant")
        z = np.where(valid | (count == 0), z, total / np.maximum(count, 1))
    return z


def corner(z, rows, columns):
    """Mean of the valid depths of a corner patch that grows until it has one."""
    size = 2
    while size <= min(z.shape) // 4:
        patch = (
            z[:size, :size]
            if (rows, columns) == (0, 0)
            else z[-size:, :size]
            if columns == 0
            else z[:size, -size:]
            if rows == 0
            else z[-size:, -size:]
        )
        if (patch > 0).any():
            return patch[patch > 0].mean()
        size *= 2
    raise SystemExit("a depth map has a corner without a valid pixel")


def plane(z):
    """Bilinear interpolation between the four corner depths."""
    down, right = np.linspace(0, 1, z.shape[0])[:, None], np.linspace(0, 1, z.shape[1])[None, :]
    corners = [corner(z, r, c) for r in (0, 1) for c in (0, 1)]
    return (1 - down) * ((1 - right) * corners[0] + right * corners[1]) + down * (
        (1 - right) * corners[2] + right * corners[3]
    )


def load_depth(path, scale, side, foreground):
    """[1,1,side,side] depth in centimetres and foreground mask at side/8; `foreground` = "plane" | "all"."""
    z = np.asarray(Image.open(path)).astype(np.float64) * scale
    z = fill(np.where(np.isfinite(z), z, 0.0))
    inside = z > 0
    if foreground == "plane":
        inside &= np.abs(plane(z) - z) > FOREGROUND_METRES
    depth = np.where(inside, z - z[inside].mean(), 0.0) * 100.0
    both = torch.from_numpy(np.stack([depth, inside.astype(np.float64)])[None])
    depth, mask = (
        F.interpolate(both, size=(side, side), mode="bilinear", align_corners=False).float().split(1, dim=1)
    )
    if foreground == "all":
        return depth, torch.ones(1, 1, side // 8, side // 8)
    dilated = ndimage.binary_dilation(mask[0, 0].numpy() > 0, np.ones((8, 8), bool))
    mask = F.interpolate(
        torch.from_numpy(dilated)[None, None].float(),
        scale_factor=1 / 8,
        mode="bilinear",
        align_corners=False,
    )
    return depth, (mask > 0).float()


def inputs(items, modality, weights, side, cache, scale, foreground):
    """Model inputs [N,C,g,g] and masks [N,1,g,g], g = side / 32, for modality rgb | depth | rgbd."""
    grid = side // 32
    masks = torch.ones(len(items), 1, grid, grid)
    parts = [features(items, weights, side, cache)] if "rgb" in modality else []
    if modality != "rgb":
        if any(item.depth is None for item in items):
            raise SystemExit(f"modality {modality} needs depth maps; this dataset has none")
        loaded = [load_depth(item.depth, scale, grid * 8, foreground) for item in items]
        parts.append(F.pixel_unshuffle(torch.cat([depth for depth, _ in loaded]), 8))
        masks = torch.cat([mask for _, mask in loaded])
    return torch.cat(parts, 1), masks
