"""3D preprocessing of one map as the released code does it, pixel by pixel in Python, and the same in whole arrays.

The loops follow the released program's algorithm (fill holes with the mean of the valid neighbours, three times;
plane through the corners; foreground; resize; dilation), not its text.
"""

import numpy as np
import torch
import torch.nn.functional as F
from ast_torch import datasets
from scipy import ndimage

DISTANCE, SIZE = 0.007, 192


def fill_by_pixel(z):
    """Each missing pixel (0) gets the mean of the valid ones around it."""
    filled = z.copy()
    for row, column in np.argwhere(z == 0):
        around = z[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        count = np.sum(around > 0)
        if count:
            filled[row, column] = np.sum(around) / count
    return filled


def finish(z):
    """Filled depth in metres -> centimetres about the foreground's mean at 192², and the mask at 24²."""
    inside = (z > 0) & (np.abs(datasets.plane(z) - z) > DISTANCE)
    depth = np.where(inside, z - z[inside].mean(), 0.0) * 100.0
    both = torch.from_numpy(np.stack([depth, inside])[None]).float()
    depth, mask = F.interpolate(both, size=(SIZE, SIZE), mode="bilinear", align_corners=False)[0].numpy()
    dilated = ndimage.binary_dilation(mask > 0, np.ones((8, 8), bool))
    mask = F.interpolate(torch.from_numpy(dilated)[None, None].float(), scale_factor=1 / 8, mode="bilinear")
    return depth[None, None], (mask > 0).float().numpy()


def by_pixel(z):
    for _ in range(3):
        z = fill_by_pixel(z)
    return finish(z)


def by_array(z):
    return finish(datasets.fill(z))
