"""A product: what all its good parts share. `Product.picture` draws one of them, with a defect or without.

Everything is drawn at twice the size and shrunk. The same `seed` gives the same pose, light, texture and
noise, so that a part can be drawn with its defect and without.
"""

import cv2
import numpy as np

from . import fields, shapes
from .defects import Defect
from .materials import Material, palette


class Scene:
    """Albedo [s,s,3], relief [s,s] in pixels, and where the part is [s,s]."""

    def __init__(self, albedo, relief, body):
        self.albedo, self.relief, self.body = albedo, relief, body

    def paint(self, colour, alpha):
        """Covers with a colour or a picture, `alpha` [s,s] in 0..1."""
        self.albedo = self.albedo + alpha[..., None] * (colour - self.albedo)


class Element:
    """A hole, boss, groove, ring, thread, patch of paint or print on a part."""

    def __init__(self, rng):
        self.role = str(rng.choice(["hole", "boss", "paint", "paint", "print", "ring", "thread"]))
        self.points = shapes.outline(rng, str(rng.choice(shapes.KINDS)))
        self.at = rng.uniform(-0.55, 0.55, 2)
        self.scale, self.angle = np.exp(rng.uniform(np.log(0.05), np.log(0.4))), rng.uniform(0, 6.3)
        self.colour = palette(rng, 1)[0]
        self.material = Material(rng)
        self.height = rng.uniform(1, 6) * rng.choice([-1, 1])
        self.seed = int(rng.integers(2**31))

    def draw(self, rng, scene, size, radius, change=None):
        """Onto the scene; `change` is None, "missing", "moved" or "recoloured"."""
        own = np.random.default_rng(self.seed)
        texture = int(rng.integers(2**31))
        if change == "missing":
            return
        at = self.at * radius + (0.35 * radius * np.array([0.7, -0.7]) if change == "moved" else 0)
        points = shapes.place(self.points, at, self.scale * radius, self.angle)
        mask = shapes.mask(points, size) * scene.body
        colour = 1 - self.colour if change == "recoloured" else self.colour
        if self.role == "hole":
            scene.paint(0.12 * colour, mask)
            scene.relief = scene.relief - 4 * abs(self.height) * cv2.GaussianBlur(mask, (0, 0), 2)
        elif self.role == "boss":
            scene.relief = scene.relief + 2 * self.height * cv2.GaussianBlur(mask, (0, 0), 1.5)
        elif self.role == "paint":
            is_plain = self.seed % 2 or change == "recoloured"
            paint = colour if is_plain else self.material.sample(np.random.default_rng(texture), size)[0]
            scene.paint(paint, mask)
        elif self.role == "print":
            letters = shapes.text(own, size, at - [self.scale * radius, 0], max(0.12, self.scale * radius * 0.6))
            scene.paint(colour, letters * scene.body)
        elif self.role == "ring":
            ring = mask - shapes.mask(shapes.place(self.points, at, self.scale * radius * 0.8, self.angle), size)
            scene.paint(colour, np.clip(ring, 0, 1) * scene.body)
            scene.relief = scene.relief + self.height * ring
        else:  # thread
            u, _ = fields.coordinates(size, self.angle, size * (0.02 + 0.06 * self.scale))
            saw = np.abs(np.mod(u, 1.0) - 0.5) * mask
            scene.relief = scene.relief + 2 * abs(self.height) * saw
            if change == "recoloured":
                scene.paint(colour, 0.5 * mask)


class Product:
    def __init__(self, seed, held_out=False):
        rng = np.random.default_rng([seed, 77 if held_out else 7])
        self.is_surface = rng.random() < 0.35
        self.body, self.ground = Material(rng), Material(rng)
        if rng.random() < 0.6:
            self.ground.kind = str(rng.choice(["plain", "noise"]))
            self.ground.contrast *= 0.2
        kinds = [shapes.HELD_OUT, *shapes.KINDS] if held_out else shapes.KINDS
        self.points = shapes.outline(rng, str(rng.choice(kinds)))
        self.radius = rng.uniform(0.45, 0.9)
        self.profile, self.height = str(rng.choice(["flat", "dome", "bevel"])), rng.uniform(2, 14)
        self.elements = [Element(rng) for _ in range(rng.integers(0, 9))]
        if self.is_surface and rng.random() < 0.7:
            self.elements = []
        self.angle = rng.uniform(0, 6.3)
        self.turn = float(rng.choice([0.0, 0.03, 0.1, np.pi]))
        self.shift = rng.choice([0.0, 0.02, 0.08])
        self.light, self.light_jitter = rng.uniform(0, 6.3), rng.choice([0.0, 0.05, 0.3])
        self.ambient, self.gloss = rng.uniform(0.3, 0.8), rng.uniform(0, 0.6) * (rng.random() < 0.5)
        self.exposure, self.gain_jitter = rng.uniform(0.75, 1.25), rng.choice([0.01, 0.04, 0.12])
        self.falloff = rng.uniform(0, 0.4)
        self.blur = rng.uniform(0.3, 2.0)  # of the doubled picture's pixels
        self.noise = rng.uniform(0, 0.03)
        self.seed = seed

    def picture(self, seed, size):
        """A good part, uint8 [size,size,3]."""
        return self.sensor(self.bare(seed, size), seed)

    def bare(self, seed, size, defect: Defect | None = None):
        """Before the sensor's noise, float [size,size,3]."""
        rng = np.random.default_rng([self.seed, seed])
        big = 2 * size
        scene = self._part(rng, big, defect)
        if not self.is_surface:
            scene = self._on_ground(rng, big, scene)
        return cv2.resize(self._light(rng, scene, big), (size, size), interpolation=cv2.INTER_AREA)

    def sensor(self, bare, seed):
        """The bare picture with noise, as uint8."""
        rng = np.random.default_rng([self.seed, seed, 1])
        grain = rng.standard_normal(bare.shape).astype(np.float32) * self.noise
        return ((bare + grain).clip(0, 1) * 255).astype(np.uint8)

    def _part(self, rng, size, defect):
        """In the part's own frame."""
        albedo, relief = self.body.sample(rng, size)
        radius = 1.0 if self.is_surface else self.radius
        if self.is_surface:
            body = np.ones((size, size), np.float32)
        else:
            body = shapes.mask(self.points * self.radius, size)
            inwards = cv2.distanceTransform((body > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
            if self.profile == "dome":
                relief = relief + self.height * np.sqrt(inwards / (inwards.max() + 1)) * 2
            else:
                width = size * (0.02 if self.profile == "flat" else 0.08)
                relief = relief + self.height * np.minimum(inwards / width, 1)
        scene = Scene(albedo, relief, body)
        for i, element in enumerate(self.elements):
            change = defect.change if defect and defect.element == i else None
            element.draw(rng, scene, size, radius, change)
        if defect:
            defect.draw(scene, size)
        return scene

    def _on_ground(self, rng, size, part):
        """Put down somewhere on the ground, turned a little or any way round, with its shadow."""
        albedo, relief = self.ground.sample(rng, size)
        turn = self.angle + rng.uniform(-1, 1) * self.turn
        shift = rng.uniform(-1, 1, 2) * self.shift * size / 2
        pose = cv2.getRotationMatrix2D((size / 2, size / 2), np.degrees(turn), rng.uniform(0.98, 1.02))
        pose[:, 2] += shift
        put = lambda field: cv2.warpAffine(field, pose, (size, size), flags=cv2.INTER_LINEAR)
        body = put(part.body)
        shadow = cv2.GaussianBlur(body, (0, 0), size * 0.02)
        toward = (np.array([np.cos(self.light), np.sin(self.light)]) * -0.02 * size).tolist()
        shadow = cv2.warpAffine(shadow, np.array([[1, 0, toward[0]], [0, 1, toward[1]]]), (size, size))
        albedo = albedo * (1 - 0.5 * shadow[..., None])
        scene = Scene(albedo, relief * (1 - body) + put(part.relief * part.body), body)
        premultiplied = put(part.albedo * part.body[..., None])
        scene.albedo = albedo * (1 - body[..., None]) + premultiplied
        return scene

    def _light(self, rng, scene, size):
        """Lambert's cosine and a highlight; then falloff, exposure, focus, in that order."""
        angle = self.light + rng.normal() * self.light_jitter
        relief = scene.relief.astype(np.float32)
        gx = cv2.Sobel(relief, cv2.CV_32F, 1, 0, scale=0.125)
        gy = cv2.Sobel(relief, cv2.CV_32F, 0, 1, scale=0.125)
        length = np.sqrt(gx * gx + gy * gy + 1)
        cosine = (0.7 - 0.7 * (gx * np.cos(angle) + gy * np.sin(angle))) / length
        shade = self.ambient + (1 - self.ambient) * 1.4 * np.clip(cosine, 0, None)
        picture = scene.albedo * shade[..., None] + self.gloss * (np.clip(cosine, 0, 1) ** 12)[..., None]
        u, v = fields.coordinates(size, angle, size)
        falloff = 1 - self.falloff * (u * u + v * v) * 0.5
        tint = 1 + rng.normal(0, 0.2 * self.gain_jitter, 3)
        picture = picture * falloff[..., None] * self.exposure * (1 + rng.normal() * self.gain_jitter) * tint
        blur = self.blur * np.exp(rng.normal() * 0.1)
        return cv2.GaussianBlur(picture.astype(np.float32), (0, 0), blur)
