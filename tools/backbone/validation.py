"""Drawn products that the training never saw, with kinds of defect and shape of their own: the only set that choices are made on."""

import pathlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import cv2
import numpy as np
import torch

from . import defects
from .network import normalise
from .products import Product

FIRST_SEED = 10_000_000
BANK, GOOD, PER_KIND = 10, 8, 2


def draw_product(seed, size):
    """(bank [10,s,s,3], tests [n,s,s,3], masks [n,s,s]) of one product."""
    cv2.setNumThreads(1)
    product, rng = Product(seed, held_out=True), np.random.default_rng([seed, 6])
    bank = np.stack([product.picture(i, size) for i in range(BANK)])
    tests = [product.picture(100 + i, size) for i in range(GOOD)]
    masks = [np.zeros((size, size), bool)] * GOOD
    for i, kind in enumerate([*defects.HELD_OUT, "scratch", "stain", "dent"] * PER_KIND):
        bad, _, mask = defects.draw_defective(product, rng, 200 + i, size, [kind])
        if mask.any():
            tests.append(bad)
            masks.append(mask)
    return bank, np.stack(tests), np.stack(masks)


def products(folder, count=24, size=256):
    """The set, drawn where it is missing."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"validation-{size}-{count}.pt"
    if not path.exists():
        with ProcessPoolExecutor() as workers:
            seeds = range(FIRST_SEED, FIRST_SEED + count)
            torch.save(list(workers.map(partial(draw_product, size=size), seeds)), path)
    return torch.load(path, weights_only=False)


def auroc(good, bad):
    """The share of pairs in order; ties count half."""
    good, bad = np.sort(np.asarray(good)), np.asarray(bad)
    below, upto = np.searchsorted(good, bad, "left"), np.searchsorted(good, bad, "right")
    return float((below + upto).mean() / 2 / len(good))


def rows(maps):
    """[N,C,g,g] -> [N g g, C]."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


@torch.no_grad()
def score(extract, drawn):
    """Nearest-neighbour (image AUROC, pixel AUROC), means over the products; `extract`: normalised pictures -> features."""
    images, pixels = [], []
    for bank, tests, masks in drawn:
        maps = [extract(normalise(torch.from_numpy(p).permute(0, 3, 1, 2).float() / 255)) for p in (bank, tests)]
        mean, std = (f(maps[0].float(), (0, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
        bank, tests = ((m.float() - mean) / (std + 1e-3 * std.mean() + 1e-9) for m in maps)
        distance = torch.cdist(rows(tests), rows(bank)).amin(1).view(len(tests), -1).numpy()
        is_bad = masks.any((1, 2))
        top = np.sort(distance, 1)[:, -max(distance.shape[1] // 50, 1) :].mean(1)
        images.append(auroc(top[~is_bad], top[is_bad]))
        side = tests.shape[-1]
        cell = masks.shape[1] // side
        covered = masks.reshape(len(masks), side, cell, side, cell).mean((2, 4)).reshape(len(masks), -1)
        pixels.append(auroc(distance[covered == 0], distance[covered > 0.04]))
    return float(np.mean(images)), float(np.mean(pixels))
