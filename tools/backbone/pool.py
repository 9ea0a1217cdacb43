"""The pictures to train on, drawn once and kept: two good parts, a third one, and the third with a defect.

They lie in shards of `SHARD` products each, so that a stopped drawing goes on where it was.
"""

import os
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np

from . import defects
from .products import Product

SHARD = 100


def episode(seed, size):
    """(pictures uint8 [4,size,size,3], mask bool [size,size] of the defect in the last one)."""
    product = Product(seed)
    rng = np.random.default_rng([seed, 5])
    bad, twin, mask = defects.draw_defective(product, rng, 100, size, defects.KINDS)
    return np.stack([product.picture(1, size), product.picture(2, size), twin, bad]), mask


def shard(path, index, size):
    """Draws the products of one file, unless it is there."""
    if path.exists():
        return
    cv2.setNumThreads(1)
    pictures, masks = zip(*(episode(index * SHARD + i, size) for i in range(SHARD)), strict=True)
    part = path.with_suffix(".part.npy")
    four = np.stack(pictures)
    # The mask is the lowest bit of the defective picture's red: one file, one memory map.
    four[:, 3, :, :, 0] = (four[:, 3, :, :, 0] & 0xFE) | np.stack(masks)
    np.save(part, four)
    part.rename(path)


class Pool:
    """`count` products in `folder`; those that are missing are drawn."""

    def __init__(self, folder, count, size):
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"pool-{size}-{i:04}.npy" for i in range(-(-count // SHARD))]
        with ProcessPoolExecutor(os.cpu_count()) as workers:
            jobs = [workers.submit(shard, path, i, size) for i, path in enumerate(files)]
            for i, job in enumerate(jobs):
                job.result()
                if i % 5 == 4:
                    print(f"drawn: {(i + 1) * SHARD} products", flush=True)
        self.maps = [np.load(path, mmap_mode="r") for path in files]
        self.count = count

    def __getitem__(self, index):
        """(pictures uint8 [4,S,S,3], mask bool [S,S])."""
        four = self.maps[index // SHARD][index % SHARD]
        return four, (four[3, :, :, 0] & 1).astype(bool)
