"""Maps, image scores and AUROC for the peer programs (spec section 8)."""

import numpy as np
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from .datasets import load_truth


def enlarge(maps):
    """[N,1,g,g] -> [N,8g,8g], bicubic."""
    return F.interpolate(maps, scale_factor=8, mode="bicubic", align_corners=False)[:, 0]


def image_scores(maps, large, score):
    """[N]: "max" of the enlarged map, "top", the mean of its highest 5 %, or "mean" of the small map."""
    if score == "mean":
        return maps.mean(dim=(1, 2, 3))
    flat = large.flatten(1)
    count = 1 if score == "max" else max(round(0.05 * flat.shape[1]), 1)
    return flat.topk(count, dim=1).values.mean(1)


def evaluate(items, maps, score):
    """(image AUROC, pixel AUROC) of [N,1,g,g] maps.

    Pixel AUROC is taken over all test images at the enlarged size, ground truth resized to it by nearest neighbour.
    """
    large = enlarge(maps)
    scores = image_scores(maps, large, score)
    image = roc_auc_score([item.defective for item in items], scores.numpy())
    truth = np.stack([load_truth(item, large.shape[-1]) for item in items])
    return image, roc_auc_score(truth.ravel(), large.numpy().ravel())
