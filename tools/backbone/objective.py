"""What the backbone is trained for. E products, four pictures each: good, good, good, the third with a defect."""

import torch
import torch.nn.functional as F
from torch import nn

from . import descriptors
from .network import EARLIER, STRIDE

TEMPERATURE = 0.1
MARGIN = 1.0


def standardised(values, dims, like=None):
    """Mean 0 over `dims`, and the variance of `like` (by default its own) scaled to 1."""
    variance = (values if like is None else like).var(dims, keepdim=True)
    return (values - values.mean(dims, keepdim=True)) * (variance + 1e-4).rsqrt()


def coverage(masks):
    """[E,S,S] -> [E, g g]: the share of each patch that the defect covers."""
    return F.avg_pool2d(masks[:, None], STRIDE).flatten(1)


def patches(features):
    """[E,K,C,g,g] -> unit vectors [E,K,g g,C]."""
    return F.normalize(features.flatten(3).transpose(2, 3), dim=-1, eps=1e-4)


def nearest(queries, keys):
    """[E,q,C], [E,k,C] -> similarity to the nearest key, softly, in units of the temperature."""
    return (torch.einsum("eqc,ekc->eqk", queries, keys) * 2 / TEMPERATURE).logsumexp(-1) / 2


def contrast(vectors, defective):
    """A good patch finds its like among its product's good pictures rather than elsewhere, or on the defect.

    InfoNCE with all of the product's good patches as positives (MIL-NCE, Miech et al. 2020).
    """
    bank, good, bad = vectors[:, :2].flatten(1, 2), vectors[:, 2], vectors[:, 3]
    logits = torch.einsum("eqc,fkc->eqfk", good, bank) / TEMPERATURE
    own = logits.diagonal(dim1=0, dim2=2).permute(2, 0, 1).logsumexp(-1)
    hard = torch.einsum("eqc,ekc->eqk", good, bad) / TEMPERATURE
    hard = hard.masked_fill(~defective[:, None, :], -50.0).logsumexp(-1)
    return (torch.logaddexp(logits.flatten(2).logsumexp(-1), hard) - own).mean()


def rank(vectors, defective):
    """A defective patch is further from the good ones than a good patch is: logistic, over all pairs within a product."""
    bank, good, bad = vectors[:, :2].flatten(1, 2), vectors[:, 2], vectors[:, 3]
    of_good, of_bad = nearest(good, bank), nearest(bad, torch.cat([bank, good], 1))
    pairs = F.softplus(of_bad[:, :, None] - of_good[:, None, :] + MARGIN)
    weights = defective[:, :, None].float().expand_as(pairs)
    return ((pairs * weights).sum((1, 2)) / weights.sum((1, 2)).clamp_min(1)).mean()


def importance():
    """[112,1,1], mean 1. Colours and the lay of the quarters have a sign, which networks lose first and learn last."""
    weights = torch.ones(descriptors.COUNT, 1, 1)
    weights[: descriptors.COLOURS] = 4
    weights[-descriptors.QUARTERS :] = 2
    return weights / weights.mean()


class Objective(nn.Module):
    """The weighted sum of five parts; a weight of 0 leaves one out.

    describe: the features are the descriptors, both standardised over the batch;
    deep: a 1x1 convolution makes the descriptors of what each earlier stage gives (deeply-supervised nets, Lee et al. 2015),
        lest a stage drop what the next ones cannot bring back;
    within: the same within each product, where the differences are small and a detector looks for them;
    contrast, rank: see there.
    """

    PARTS = ("describe", "deep", "within", "contrast", "rank")

    def __init__(self, weights):
        super().__init__()
        self.weights = dict(zip(self.PARTS, weights, strict=True))
        # A scale and a shift of each channel, for the network to be free in its own.
        self.statistics = nn.BatchNorm2d(descriptors.COUNT, affine=False, momentum=None)  # of all targets so far
        self.scale = nn.Parameter(torch.ones(descriptors.COUNT))
        self.shift = nn.Parameter(torch.zeros(descriptors.COUNT))
        self.heads = nn.ModuleList(nn.Conv2d(channels, descriptors.COUNT, 1) for channels in EARLIER)
        self.register_buffer("importance", importance())

    def distance(self, guess, targets):
        return (self.importance * F.smooth_l1_loss(guess, targets, reduction="none")).mean()

    def deep(self, earlier, targets):
        size = targets.shape[-2:]
        pooled = (F.adaptive_avg_pool2d(made, size) for made in earlier)
        return sum(self.distance(head(made), targets) for head, made in zip(self.heads, pooled, strict=True))

    def forward(self, stages, targets, masks):
        """Of each stage [4 E,C,h,w], descriptors [4 E,112,g,g], masks [E,S,S] -> (loss, its parts as numbers)."""
        every, product = (0, 1, 3, 4), (1, 3, 4)
        self.statistics.train()(targets)
        targets = self.statistics.eval()(targets)
        deep = self.deep(stages[:-1], targets)
        features, targets = (t.unflatten(0, (len(masks), -1)) for t in (stages[-1], targets))
        guess = features * self.scale.view(-1, 1, 1) + self.shift.view(-1, 1, 1)
        parts = {
            "describe": self.distance(guess, targets),
            "deep": deep,
            "within": F.smooth_l1_loss(
                standardised(guess, product, targets), standardised(targets, product), beta=0.5
            ),
        }
        if self.weights["contrast"] or self.weights["rank"]:
            vectors, defective = patches(standardised(features, every)), coverage(masks) > 0.04
            parts |= {"contrast": contrast(vectors, defective), "rank": rank(vectors, defective)}
        loss = sum(self.weights[name] * part for name, part in parts.items())
        return loss, [float(parts[name].detach()) if name in parts else 0.0 for name in self.PARTS]
