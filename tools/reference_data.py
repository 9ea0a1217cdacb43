#!/usr/bin/env python3
"""Makes tests/reference/data: what Pillow, scipy, numpy and scikit-learn compute.

    pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 'pillow<13' safetensors
    python tools/reference_data.py

Pillow 13 resizes vertically first where the height shrinks and the width grows; the networks were
trained with the order of all versions before, horizontal first, and so do we.

Inputs come from splitmix64, which the Rust tests reproduce, so only outputs are stored.
Each file names this script in its metadata `made_by`.
"""

from pathlib import Path

import json
import numpy as np
import scipy
import sklearn
from PIL import Image, __version__ as pillow
from safetensors.numpy import save_file
from scipy import ndimage
from sklearn.metrics import roc_auc_score

assert int(pillow.split(".")[0]) < 13, "Pillow 13 resizes in another order, see above"

OUT = Path(__file__).resolve().parent.parent / "tests" / "reference" / "data"
MADE_BY = (
    f"tools/reference_data.py (numpy {np.__version__}, scipy {scipy.__version__}, "
    f"scikit-learn {sklearn.__version__}, Pillow {pillow})"
)


def uniform(seed, n):
    """n floats in [0, 1), multiples of 2^-24, from splitmix64."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2**24


# ---- resize --------------------------------------------------------------------------------

# seed, channels, (width, height) from, to
RESIZES = [
    (1, 3, (64, 48), (24, 24)),
    (2, 3, (37, 53), (61, 29)),
    (3, 3, (101, 7), (13, 40)),
    (4, 1, (50, 41), (33, 33)),
    (5, 3, (5, 3), (48, 64)),
    (6, 3, (40, 40), (40, 17)),
    (7, 1, (17, 40), (9, 40)),
    (8, 3, (300, 200), (64, 64)),
    (9, 3, (1, 1), (4, 4)),
    (10, 3, (33, 1000), (32, 32)),
]


def resizes():
    files = {}
    for seed, channels, (w, h), to in RESIZES:
        pixels = (uniform(seed, w * h * channels) * 256).astype(np.uint8)
        shape = (h, w, 3) if channels == 3 else (h, w)
        resized = Image.fromarray(pixels.reshape(shape)).resize(to, Image.Resampling.BILINEAR)
        files[f"u8_{seed}"] = np.asarray(resized)
        if seed in (2, 4, 7):
            # Mode F, one channel: what 16-bit pictures must give.
            gray = uniform(100 + seed, w * h).astype(np.float32).reshape(h, w)
            files[f"f32_{seed}"] = np.asarray(
                Image.fromarray(gray).resize(to, Image.Resampling.BILINEAR)
            )
    save("resize.safetensors", files)


# ---- depth ---------------------------------------------------------------------------------


def scene(seed, w, h):
    """A part on a tilted table, with holes: scattered, and blocks that are never filled."""
    y, x = np.mgrid[0:h, 0:w]
    u = uniform(seed, w * h).reshape(h, w)
    v = uniform(seed + 1000, w * h).reshape(h, w)
    z = 0.5 + 0.0002 * x - 0.0001 * y + (v - 0.5) * 0.001
    part = (x > w // 3) & (x < 2 * w // 3) & (y > h // 4) & (y < 3 * h // 4)
    z = z - part * (0.02 + 0.01 * v)
    z = z.astype(np.float32)
    z[u < 0.15] = 0.0
    z[(u >= 0.15) & (u < 0.16)] = np.nan
    z[(u >= 0.16) & (u < 0.17)] = -1.0
    z[(u >= 0.17) & (u < 0.18)] = np.inf
    z[h // 2 : h // 2 + 10, w // 2 : w // 2 + 12] = 0.0
    z[0:3, 0:3] = 0.0 if seed % 2 else z[0:3, 0:3]
    return z


def fill(z):
    padded = np.pad(z, 1)
    sums, counts = np.zeros_like(z), np.zeros_like(z)
    for dy in range(3):
        for dx in range(3):
            if (dy, dx) != (1, 1):
                near = padded[dy : dy + z.shape[0], dx : dx + z.shape[1]]
                sums += near
                counts += near > 0
    mean = np.divide(sums, counts, out=np.zeros_like(z), where=counts > 0)
    return np.where(z > 0, z, mean)


def corner(z):
    side, limit = 2, max(2, min(z.shape) // 4)
    while side <= limit:
        patch = z[:side, :side]
        if (patch > 0).any():
            return patch[patch > 0].mean()
        side *= 2
    raise ValueError("no valid corner")


def bilinear(values, size):
    """F.interpolate(mode="bilinear", align_corners=False), written out."""
    for axis in (0, 1):
        n = values.shape[axis]
        at = np.maximum((np.arange(size) + 0.5) * n / size - 0.5, 0)
        low = np.minimum(at.astype(int), n - 1)
        high = np.minimum(low + 1, n - 1)
        t = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        values = values.take(low, axis) * (1 - t) + values.take(high, axis) * t
    return values


def preprocess(z, size, map_size, passes, distance, dilation):
    z = np.where(np.isfinite(z) & (z > 0), z, 0).astype(np.float64)
    for _ in range(passes):
        z = fill(z)
    h, w = z.shape
    tl, tr = corner(z), corner(z[:, ::-1])
    bl, br = corner(z[::-1]), corner(z[::-1, ::-1])
    y, x = np.mgrid[0:h, 0:w]
    y, x = y / (h - 1), x / (w - 1)
    plane = (tl * (1 - x) + tr * x) * (1 - y) + (bl * (1 - x) + br * x) * y
    front = (np.abs(plane - z) > distance) & (z > 0)
    # No pixel may hang on the last bit of the plane: the test would prove nothing there.
    assert np.abs(np.abs(plane - z) - distance)[z > 0].min() > 1e-8
    depth = np.where(front, (z - z[front].mean()) * 100, 0)
    covered = bilinear(front.astype(np.float64), size) > 0
    dilated = ndimage.binary_dilation(covered, np.ones((dilation, dilation)))
    soft = bilinear(dilated.astype(np.float64), map_size)
    return bilinear(depth, size), dilated, soft


# seed, (width, height), size, map size, passes, distance, dilation
DEPTHS = [
    (21, (96, 80), 48, 6, 3, 0.007, 8),
    (22, (50, 70), 64, 8, 1, 0.007, 5),
    (23, (120, 120), 48, 12, 2, 0.010, 2),
    (24, (60, 60), 32, 8, 0, 0.007, 1),
]


def depths():
    files = {}
    for seed, (w, h), *options in DEPTHS:
        depth, dilated, soft = preprocess(scene(seed, w, h), *options)
        files[f"depth_{seed}"] = depth.astype(np.float32)
        files[f"foreground_{seed}"] = dilated.astype(np.uint8)
        files[f"soft_{seed}"] = soft.astype(np.float32)
    for seed, size, side in [(31, 24, 8), (32, 24, 5), (33, 17, 4), (34, 12, 1), (35, 9, 20)]:
        mask = (uniform(seed, size * size) < 0.02).reshape(size, size)
        files[f"dilated_{seed}"] = ndimage.binary_dilation(mask, np.ones((side, side))).astype(np.uint8)
    save("depth.safetensors", files)


# ---- metrics -------------------------------------------------------------------------------


def brute_aupro(maps, masks, limit):
    """The definition, one threshold at a time; quadratic on purpose."""
    regions = []
    for scores, mask in zip(maps, masks):
        labels, n = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [scores[labels == i] for i in range(1, n + 1)]
    good = np.concatenate([s[m == 0] for s, m in zip(maps, masks)])
    points = [(0.0, 0.0)]
    for t in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        points.append((np.mean(good >= t), np.mean([np.mean(r >= t) for r in regions])))
    area = 0.0
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
        if x1 >= limit:
            break
    return area / limit, len(regions)


def score_map(seed, w, h, levels):
    """Blobs as defects, scores that partly follow them; `levels` > 0 makes ties."""
    u = uniform(seed, w * h).reshape(h, w)
    mask = ndimage.gaussian_filter(uniform(seed + 1000, w * h).reshape(h, w), 1.5) > 0.56
    mask[0, 0] = mask[1, 1] = True  # joined by a corner only
    scores = u + 0.3 * mask
    if levels:
        scores = np.floor(scores * levels)
    return scores.astype(np.float32), mask.astype(np.uint8)


def metrics():
    files, results = {}, {"made_by": MADE_BY, "auroc": [], "pixels": []}
    for seed, n, levels in [(41, 200, 0), (42, 300, 5), (43, 1000, 40), (44, 50, 1)]:
        labels = uniform(seed + 1000, n) < 0.3
        scores = uniform(seed, n) + 0.25 * labels
        scores = (np.floor(scores * levels) if levels else scores).astype(np.float32)
        value = roc_auc_score(labels, scores)
        results["auroc"].append({"seed": seed, "n": n, "levels": levels, "auroc": value})
    for seed, images, (w, h), levels in [
        (51, 3, (40, 30), 0),
        (52, 4, (31, 33), 20),
        (53, 2, (24, 24), 3),
        (54, 1, (60, 20), 1),
    ]:
        pairs = [score_map(seed * 10 + i, w, h, levels) for i in range(images)]
        maps, masks = [p[0] for p in pairs], [p[1] for p in pairs]
        for i, mask in enumerate(masks):
            files[f"mask_{seed}_{i}"] = mask
        y, s = np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps])
        result = {"seed": seed, "images": images, "width": w, "height": h, "levels": levels}
        result["auroc"] = roc_auc_score(y, s)
        for limit in (0.05, 0.3, 1.0):
            result[f"aupro_{limit}"], result["defects"] = brute_aupro(maps, masks, limit)
        results["pixels"].append(result)
    scores = uniform(61, 37).astype(np.float32)
    results["quantiles"] = [[q, float(np.quantile(scores.astype(np.float64), q))] for q in (0, 0.5, 0.9, 0.99, 1)]
    save("masks.safetensors", files)
    (OUT / "metrics.json").write_text(json.dumps(results, indent=1) + "\n")


def save(name, tensors):
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    save_file(tensors, OUT / name, metadata={"made_by": MADE_BY})


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    resizes()
    depths()
    metrics()
    for file in sorted(OUT.iterdir()):
        print(f"{file.stat().st_size:8} {file.name}")
