"""Ways for a part to go astray."""

import cv2
import numpy as np

from . import fields, shapes
from .materials import Material, palette

KINDS = ("scratch", "crack", "stain", "dent", "patch", "specks", "chip", "extra", "moved", "recoloured", "swap")
HELD_OUT = ("fibre", "missing", "bend", "smear")  # for the validation's products alone
OF_ELEMENTS = ("moved", "recoloured", "missing")


class Defect:
    """One defect of a kind in a part's frame; `strength` from 0 (hardly seen) to 1."""

    def __init__(self, rng, kind, product, strength):
        self.kind, self.strength = kind, strength
        self.seed = int(rng.integers(2**31))
        self.element = self.change = None
        if kind in OF_ELEMENTS:
            if product.elements:
                self.element, self.change = int(rng.integers(len(product.elements))), kind
            else:
                self.kind = "bend" if kind == "missing" else "patch"
        self.reach = 0.9 if product.is_surface else 0.75 * product.radius
        self.radius = np.exp(rng.uniform(np.log(0.05), np.log(0.3)))  # of half the side

    def draw(self, scene, size):
        if self.element is None:
            rng = np.random.default_rng(self.seed)
            getattr(self, f"_{self.kind}")(rng, scene, size, rng.uniform(-1, 1, 2) * self.reach)

    def _ink(self, rng, scene):
        """A colour that differs from the part's."""
        mean = scene.albedo[scene.body > 0.5].mean(0) if (scene.body > 0.5).any() else 0.5
        colour = palette(rng, 1)[0]
        return colour if np.abs(colour - mean).max() > 0.25 else np.mod(mean + 0.5, 1.0)

    def _blob(self, rng, size, at, ragged=0.5):
        """A ragged spot as a soft mask."""
        x, y = fields.coordinates(size)
        distance = np.hypot(2 * x / size - 1 - at[0], (2 * y / size - 1 - at[1]) * rng.uniform(1, 1.6))
        noise = fields.spectral(rng, size, 1.6, 1.0) - 0.5
        return np.clip((self.radius * (1 + 2 * ragged * noise) - distance) * size / 6 + 0.5, 0, 1).astype(np.float32)

    def _path(self, rng, at, bend):
        """A walk of about 2 to 6 radii."""
        steps = int(rng.integers(6, 16))
        turns = rng.uniform(0, 6.3) + np.cumsum(rng.normal(0, bend, steps))
        stride = self.radius * rng.uniform(2, 6) / steps
        return at + np.cumsum(stride * np.stack([np.cos(turns), np.sin(turns)], 1), 0)

    def _scratch(self, rng, scene, size, at):
        mask = shapes.line(self._path(rng, at, 0.1), size, size * rng.uniform(0.004, 0.016)) * scene.body
        ink = self._ink(rng, scene)
        scene.paint(ink, mask * (0.3 + 0.7 * self.strength))
        scene.relief = scene.relief - 3 * self.strength * mask

    def _crack(self, rng, scene, size, at):
        mask = shapes.line(self._path(rng, at, 0.7), size, size * rng.uniform(0.004, 0.012)) * scene.body
        scene.paint(0.1 * scene.albedo, mask * (0.4 + 0.6 * self.strength))
        scene.relief = scene.relief - 4 * mask

    def _fibre(self, rng, scene, size, at):
        mask = shapes.line(self._path(rng, at, 0.35), size, size * 0.006)
        scene.paint(self._ink(rng, scene), mask * (0.5 + 0.5 * self.strength))
        scene.body = np.maximum(scene.body, mask)

    def _stain(self, rng, scene, size, at):
        mask = self._blob(rng, size, at, 0.8) * scene.body
        scene.paint(self._ink(rng, scene) * rng.uniform(0.3, 1), mask * (0.2 + 0.7 * self.strength))

    def _dent(self, rng, scene, size, at):
        x, y = fields.coordinates(size)
        squared = ((2 * x / size - 1 - at[0]) ** 2 + (2 * y / size - 1 - at[1]) ** 2) / (0.6 * self.radius) ** 2
        depth = self.radius * size * rng.choice([-0.3, 0.3]) * (0.4 + self.strength)
        scene.relief = scene.relief + depth * np.exp(-squared).astype(np.float32)

    def _patch(self, rng, scene, size, at):
        """Another material shows."""
        albedo, relief = Material(rng).sample(rng, size)
        mask = self._blob(rng, size, at, 0.5) * scene.body
        scene.paint(albedo, mask * (0.4 + 0.6 * self.strength))
        scene.relief = scene.relief + mask * relief

    def _swap(self, rng, scene, size, at):
        """A piece of the part itself, from elsewhere and turned."""
        mask = self._blob(rng, size, at, 0.3) * scene.body
        turn = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(30, 330), rng.uniform(0.6, 1.6))
        turn[:, 2] += rng.uniform(-0.2, 0.2, 2) * size
        move = lambda field: cv2.warpAffine(field, turn, (size, size), borderMode=cv2.BORDER_REFLECT)
        scene.paint(move(scene.albedo), mask)
        scene.relief = scene.relief + mask * (move(scene.relief) - scene.relief)

    def _specks(self, rng, scene, size, at):
        mask = np.zeros((size, size), np.float32)
        for _ in range(int(rng.integers(2, 12))):
            where = at + rng.normal(0, self.radius, 2)
            mask = np.maximum(mask, shapes.mask(shapes.place(shapes.outline(rng, "blob"), where, rng.uniform(0.012, 0.04), 0), size))
        scene.paint(self._ink(rng, scene), mask * scene.body * (0.4 + 0.6 * self.strength))

    def _chip(self, rng, scene, size, at):
        """Broken off at the rim; in a surface, a pit."""
        edge = cv2.morphologyEx(scene.body, cv2.MORPH_GRADIENT, np.ones((3, 3)))
        rim = np.argwhere(edge > 0.3)
        if len(rim):
            y, x = rim[rng.integers(len(rim))]
            at = np.array([x, y]) * 2 / size - 1
        mask = shapes.mask(shapes.place(shapes.outline(rng, "blob"), at, self.radius, 0), size)
        scene.paint(0.2 * scene.albedo, mask * (not len(rim)))
        scene.body = scene.body * (1 - mask) if len(rim) else scene.body
        scene.relief = scene.relief - 6 * cv2.GaussianBlur(mask, (0, 0), 2)

    def _extra(self, rng, scene, size, at):
        """Something lies there."""
        points = shapes.place(shapes.outline(rng, str(rng.choice(shapes.KINDS))), at, self.radius, rng.uniform(0, 6.3))
        mask = shapes.mask(points, size)
        albedo, _ = Material(rng).sample(rng, size)
        scene.paint(albedo, mask)
        scene.body = np.maximum(scene.body, mask)
        scene.relief = scene.relief + 4 * cv2.GaussianBlur(mask, (0, 0), 1.5)

    def _bend(self, rng, scene, size, at):
        """Pixels moved around `at`."""
        x, y = fields.coordinates(size)
        dx, dy = 2 * x / size - 1 - at[0], 2 * y / size - 1 - at[1]
        radius = self.radius + 0.1
        force = np.exp(-(dx * dx + dy * dy) / radius**2) * (0.3 + self.strength) * radius * size * 0.25
        angle = rng.uniform(0, 6.3)
        move = lambda f: cv2.remap(
            f, (x + force * np.cos(angle)).astype(np.float32), (y + force * np.sin(angle)).astype(np.float32),
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT,
        )
        scene.albedo, scene.relief, scene.body = move(scene.albedo), move(scene.relief), move(scene.body)

    def _smear(self, rng, scene, size, at):
        """Wiped: blurred within a spot."""
        mask = self._blob(rng, size, at, 0.4)
        length = max(int(size * 0.06), 3)
        wiped = cv2.blur(scene.albedo, (length, 3) if rng.random() < 0.5 else (3, length))
        scene.paint(wiped, mask)
        scene.relief = scene.relief + mask * (cv2.GaussianBlur(scene.relief, (0, 0), 4) - scene.relief)


def draw_defective(product, rng, seed, size, kinds):
    """(with the defect, without, mask [size,size] bool of what differs visibly), the same part both times."""
    clean = product.bare(seed, size)
    for attempt in range(6):
        strength = min(1.0, rng.random() + 0.2 * attempt)
        bare = product.bare(seed, size, Defect(rng, str(rng.choice(kinds)), product, strength))
        mask = np.abs(bare.clip(0, 1) - clean.clip(0, 1)).max(-1) > 0.055
        if mask.sum() >= size * size // 1200:
            break
    return product.sensor(bare, seed + 1), product.sensor(clean, seed), mask
