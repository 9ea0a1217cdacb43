"""What a patch of 16 x 16 pixels looks like, in 112 numbers drawn up by hand: the targets that the backbone learns.

Colour and its spread in opponent channels; edges by direction and scale, in luminance and colour (as HOG, Dalal & Triggs
2005); edges of those edges (a scattering transform of second order, Bruna & Mallat 2013); the lay of the patch's quarters.
Like MaskFeat's (Wei et al. 2022), which found such features as good a target as any.
"""

import math

import torch
import torch.nn.functional as F

from .network import STRIDE

OPPONENT = ((1 / 3, 1 / 3, 1 / 3), (0.5, -0.5, 0.0), (0.25, 0.25, -0.5))
FLOOR = 4e-3  # of an edge, beside which nothing is seen
LUMINANCE = (6, (0, 1, 2, 3))  # directions, scales (octaves)
COLOUR = (2, (0, 1, 2))
SECOND = (4, ((0, 1), (0, 2), (1, 1), (1, 2)))  # directions, (scale, octaves further)
COLOURS, QUARTERS = 3, 6  # the first channels and the last: those with a sign
COUNT = 6 + 6 * 4 + 2 * 2 * 3 + 4 * 4 * 4 + 6


def edges(field, directions):
    """[N,1,h,w] -> the gradient's size in each direction, `directions` maps [N,1,h,w]."""
    around = F.pad(field, (1, 1, 1, 1), mode="replicate")
    gx = around[..., 1:-1, 2:] - around[..., 1:-1, :-2]
    gy = around[..., 2:, 1:-1] - around[..., :-2, 1:-1]
    size = (gx * gx + gy * gy).sqrt()
    angle = torch.atan2(gy, gx)
    return [size * torch.cos(angle - math.pi * k / directions) ** 2 for k in range(directions)]


def shrink(field, step):
    return F.avg_pool2d(field, step) if step > 1 else field


def spread(field, cell):
    """Logarithm of the standard deviation within cells."""
    variance = F.avg_pool2d(field**2, cell) - F.avg_pool2d(field, cell) ** 2
    return (variance.clamp_min(0) + 1e-5).sqrt().log()


def quarters(cells):
    """[N,1,2h,2w] -> [N,3,h,w]: top against bottom, left against right, one diagonal against the other."""
    a, b, c, d = F.pixel_unshuffle(cells, 2).split(1, 1)
    return torch.cat([a + b - c - d, a + c - b - d, a + d - b - c], 1)


@torch.no_grad()
def describe(pictures):
    """[N,3,H,W] in 0..1 -> [N,112,H/16,W/16]."""
    colours = torch.einsum("oc,nchw->nohw", torch.tensor(OPPONENT, device=pictures.device), pictures)
    parts = [F.avg_pool2d(colours, STRIDE), spread(colours, STRIDE)]

    def energy(field, step):
        parts.append((F.avg_pool2d(field, STRIDE // step) + FLOOR).log())

    for channel, field in enumerate(colours.split(1, 1)):
        directions, scales = COLOUR if channel else LUMINANCE
        for scale in scales:
            for edge in edges(shrink(field, 2**scale), directions):
                energy(edge, 2**scale)
    luminance = colours[:, :1]
    directions, pairs = SECOND
    for scale, further in pairs:
        for edge in edges(shrink(luminance, 2**scale), directions):
            for again in edges(shrink(edge, 2**further), directions):
                energy(again, 2 ** (scale + further))
    half = STRIDE // 2
    parts += [quarters(F.avg_pool2d(luminance, half)), quarters(spread(luminance, half))]
    return torch.cat(parts, 1)
