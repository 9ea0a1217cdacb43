"""Random scalar fields [size,size] in 0..1, the raw material of every drawing. `rng` is a numpy Generator."""

import cv2
import numpy as np


def unit(field):
    """Stretched to 0..1; a constant field becomes 0.5."""
    low, high = float(field.min()), float(field.max())
    if high - low < 1e-6:
        return np.full_like(field, 0.5, np.float32)
    return ((field - low) / (high - low)).astype(np.float32)


def spectral(rng, size, exponent=None, stretch=None):
    """Noise whose spectrum falls as 1/f^exponent; `stretch` above 1 draws it out in one direction."""
    exponent = rng.uniform(0.3, 2.2) if exponent is None else exponent
    stretch = np.exp(rng.uniform(0, 1.5) * (rng.random() < 0.4)) if stretch is None else stretch
    angle = rng.uniform(0, np.pi)
    fx, fy = np.fft.rfftfreq(size)[None, :], np.fft.fftfreq(size)[:, None]
    u, v = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
    radius = np.sqrt((u * stretch) ** 2 + (v / stretch) ** 2) + 1 / size
    white = rng.standard_normal((size, size)).astype(np.float32)
    noise = np.fft.irfft2(np.fft.rfft2(white) * radius**-exponent, s=(size, size)).astype(np.float32)
    return np.clip(0.5 + noise / (noise.std() * 6 + 1e-9), 0, 1).astype(np.float32)


def smooth(rng, size, cells):
    """Smooth bumps, about `cells` along a side."""
    grid = rng.random((int(cells) + 2, int(cells) + 2)).astype(np.float32)
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def coordinates(size, angle=0.0, period=1.0):
    """(u, v): pixels turned by `angle` and counted in `period`s."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    c, s = np.cos(angle), np.sin(angle)
    return (x * c + y * s) / period, (y * c - x * s) / period


def cells(rng, size, count):
    """Voronoi cells: (a random grey level for every cell, distance to the cell's border in pixels)."""
    seeds = np.full((size, size), 255, np.uint8)
    at = rng.integers(0, size, (count, 2))
    seeds[at[:, 0], at[:, 1]] = 0
    distance, labels = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    levels = rng.random(labels.max() + 1).astype(np.float32)[labels]
    edges = (cv2.morphologyEx(labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0)
    border = cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, 3)
    return levels, border


def warp(rng, field, strength, cells_=4):
    """The field or picture with its pixels moved by smooth amounts of up to `strength` pixels."""
    size = field.shape[0]
    x, y = coordinates(size)
    dx, dy = (smooth(rng, size, cells_) - 0.5 for _ in range(2))
    return cv2.remap(
        field, x + 2 * strength * dx, y + 2 * strength * dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
