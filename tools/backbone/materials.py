"""Surfaces. A material is drawn once per product (its parameters) and sampled anew for every picture.

A sample is (albedo [size,size,3] in 0..1, relief [size,size] in pixels of height).
"""

import cv2
import numpy as np

from . import fields


def palette(rng, count):
    """Colours, grey ones more often than not, as in a factory."""
    base = rng.uniform(0.05, 0.95, 3)
    colours = []
    for _ in range(count):
        colour = base + rng.normal(0, rng.choice([0.05, 0.2, 0.5]), 3)
        grey = rng.random() if rng.random() < 0.6 else 0.0
        colours.append(colour * (1 - grey) + colour.mean() * grey)
    return np.clip(np.array(colours), 0.02, 0.98).astype(np.float32)


def blend(field, colours):
    """A field in 0..1 as a ramp through the colours."""
    at = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(field, at, colours[:, c]) for c in range(3)], -1).astype(np.float32)


class Material:
    KINDS = ("plain", "noise", "leaves", "weave", "grains", "brushed", "wood", "pattern", "rings", "granules")

    def __init__(self, rng):
        self.kind = str(rng.choice(self.KINDS))
        self.colours = palette(rng, int(rng.integers(2, 5)))
        self.contrast = rng.uniform(0.1, 1.0)
        self.period = np.exp(rng.uniform(np.log(0.012), np.log(0.12)))  # of the picture's side
        self.angle = rng.uniform(0, np.pi)
        self.exponent = rng.uniform(0.4, 2.0)
        self.stretch = np.exp(rng.uniform(0, 1.5))
        self.disorder = rng.uniform(0, 0.6) ** 2
        self.relief = rng.uniform(0, 1.5) * (rng.random() < 0.6)
        self.shape = int(rng.integers(0, 4))

    def sample(self, rng, size):
        field = getattr(self, f"_{self.kind}")(rng, size)
        mean = self.colours.mean(0)
        albedo = mean + self.contrast * (blend(field, self.colours) - mean)
        return albedo, field * self.relief * self.period * size * 0.1

    def _plain(self, rng, size):
        return 0.5 + 0.1 * (fields.spectral(rng, size, self.exponent, 1.0) - 0.5)

    def _noise(self, rng, size):
        return fields.spectral(rng, size, self.exponent, self.stretch)

    def _leaves(self, rng, size):
        """Dead leaves: shapes that cover one another, their sizes a power law."""
        field = np.full((size, size), 0.5, np.float32)
        smallest = max(self.period * size * 0.3, 2.0)
        count = int(np.clip(3 * (size / smallest) ** 1.2, 60, 500))
        radii = np.sort(smallest * (1 - rng.random(count)) ** -0.7)[::-1].clip(smallest, size / 3)
        for radius in radii:
            at = rng.integers(0, size, 2).tolist()
            axes = (int(radius), max(int(radius * rng.uniform(0.3, 1)), 1))
            level = float(rng.random())
            if self.shape < 2:
                cv2.ellipse(field, at, axes, rng.uniform(0, 180), 0, 360, level, -1)
            else:
                box = cv2.boxPoints((at, (2 * axes[0], 2 * axes[1]), rng.uniform(0, 180)))
                cv2.fillConvexPoly(field, box.astype(np.int32), level)
        return field

    def _weave(self, rng, size):
        u, v = self._lattice(rng, size)
        over = (np.floor(u) + np.floor(v)) % 2 == 0
        warp_, weft = np.abs(np.sin(np.pi * u)), np.abs(np.sin(np.pi * v))
        return np.where(over, 0.5 + 0.5 * warp_, 0.5 * weft).astype(np.float32)

    def _grains(self, rng, size):
        levels, border = fields.cells(rng, size, int(np.clip(self.period**-2 * 0.3, 30, 3000)))
        return levels * np.clip(border / 2, 0.3, 1) if self.shape % 2 else levels

    def _brushed(self, rng, size):
        return fields.spectral(rng, size, 0.6, 4.0 + 4.0 * self.disorder)

    def _wood(self, rng, size):
        u, v = fields.coordinates(size, self.angle, self.period * size)
        bend = 6 * fields.smooth(rng, size, 3) * (0.3 + self.disorder)
        rings = np.mod(u + bend + 0.2 * np.sin(v / 3) + rng.uniform(0, 9), 1.0)
        return (0.8 * rings + 0.2 * fields.spectral(rng, size, 0.8, 4.0)).astype(np.float32)

    def _pattern(self, rng, size):
        """Dots, squares, stripes or a honeycomb, one to a cell of a lattice."""
        u, v = self._lattice(rng, size)
        if self.shape == 3:
            u = u + 0.5 * (np.floor(v) % 2)
        du, dv = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
        distance = (np.hypot(du, dv), np.maximum(abs(du), abs(dv)), abs(du), np.hypot(du, dv))[self.shape]
        return np.clip((0.35 - distance) * self.period * size * 0.6 + 0.5, 0, 1).astype(np.float32)

    def _rings(self, rng, size):
        """Turned: rings around a middle that lies in or out of the picture."""
        x, y = fields.coordinates(size, 0.0, size)
        middle = 0.5 + 0.5 * np.array([np.cos(7 * self.angle), np.sin(5 * self.angle)]) * (self.shape > 0)
        radius = np.hypot(x - middle[0], y - middle[1]) / (self.period * 0.5)
        wave = 0.5 + 0.5 * np.sin(2 * np.pi * radius + rng.uniform(0, 6.3))
        return (0.8 * wave + 0.2 * fields.spectral(rng, size, 1.0, 1.0)).astype(np.float32)

    def _granules(self, rng, size):
        """Specks on a ground, thick or thin."""
        noise = cv2.GaussianBlur(rng.random((size, size)).astype(np.float32), (0, 0), self.period * size * 0.12 + 0.6)
        return np.clip((fields.unit(noise) - 0.55 - 0.15 * self.disorder) * 8, 0, 1)

    def _lattice(self, rng, size):
        """Coordinates in cells, shifted at random, a little out of true."""
        u, v = fields.coordinates(size, self.angle, self.period * size)
        bend = self.disorder * 2
        u = u + rng.uniform(0, 2) + bend * fields.smooth(rng, size, 3)
        return u, v * (0.6 + self.stretch * 0.2) + rng.uniform(0, 2) + bend * fields.smooth(rng, size, 3)
