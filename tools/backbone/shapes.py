"""Outlines, in units of half the picture's side, and their masks."""

import cv2
import numpy as np

KINDS = ("ellipse", "rectangle", "polygon", "star", "blob", "capsule")
HELD_OUT = "gear"  # for the validation's products alone


def outline(rng, kind):
    """[n,2] points around the origin; the longest half-axis is about 1."""
    t = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    aspect = rng.uniform(0.4, 1.0)
    if kind == "ellipse":
        r = np.ones_like(t)
    elif kind == "rectangle":  # a superellipse: corners from round to sharp
        power = rng.uniform(3, 20)
        r = (np.abs(np.cos(t)) ** power + np.abs(np.sin(t)) ** power) ** (-1 / power)
    elif kind == "polygon":
        corners = int(rng.integers(3, 9))
        r = np.cos(np.pi / corners) / np.cos(np.mod(t, 2 * np.pi / corners) - np.pi / corners)
        aspect = 1.0
    elif kind == "star":
        r = 1 - rng.uniform(0.1, 0.35) * (0.5 + 0.5 * np.cos(int(rng.integers(3, 10)) * t))
        aspect = 1.0
    elif kind == "gear":
        teeth = int(rng.integers(8, 24))
        r = 1 - rng.uniform(0.08, 0.2) * np.clip(3 * np.cos(teeth * t) + 0.5, 0, 1)
        aspect = 1.0
    elif kind == "blob":
        r = np.ones_like(t)
        for k in range(2, 6):
            r += rng.normal(0, 0.25 / k) * np.cos(k * t + rng.uniform(0, 6.3))
        r = np.clip(r, 0.4, 1.6) / 1.3
    else:  # capsule
        aspect = 1.0
        half = rng.uniform(0.1, 0.35)
        x, y = np.cos(t), np.sin(t)
        return np.stack([half * x + (1 - half) * np.sign(x), half * y], 1)
    return np.stack([r * np.cos(t), aspect * r * np.sin(t)], 1)


def place(points, at, scale, angle):
    """Turned, scaled, moved."""
    c, s = np.cos(angle), np.sin(angle)
    return (points * scale) @ np.array([[c, s], [-s, c]]) + at


def mask(points, size):
    """[size,size] in 0..1, smooth at the edge; points in units of half the side around the middle."""
    picture = np.zeros((size, size), np.uint8)
    fixed = np.round((points + 1) * size / 2 * 16).astype(np.int32)
    cv2.fillPoly(picture, [fixed], 255, cv2.LINE_AA, shift=4)
    return picture.astype(np.float32) / 255


def line(points, size, width):
    """A polyline of `width` pixels as a mask."""
    picture = np.zeros((size, size), np.uint8)
    fixed = np.round((points + 1) * size / 2 * 16).astype(np.int32)
    cv2.polylines(picture, [fixed], False, 255, max(int(round(width)), 1), cv2.LINE_AA, shift=4)
    return picture.astype(np.float32) / 255


def text(rng, size, at, height):
    """Printed letters as a mask; `height` and `at` in units of half the side."""
    picture = np.zeros((size, size), np.uint8)
    letters = "".join(rng.choice(list("ABCDEFGHKLMNPRSTUVXYZ0123456789-+"), int(rng.integers(1, 7))))
    scale = height * size / 2 / 22
    where = ((np.array(at) + 1) * size / 2).astype(int).tolist()
    font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX]))
    cv2.putText(picture, letters, where, font, scale, 255, max(1, int(scale * rng.uniform(1, 3))), cv2.LINE_AA)
    return picture.astype(np.float32) / 255
