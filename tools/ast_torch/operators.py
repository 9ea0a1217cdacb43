"""The operators by their definitions (spec sections 2, 5, 6, 8), on N,C,H,W tensors."""

import torch
import torch.nn.functional as F

CLAMP = 1e6


def pad(x, padding, mode):
    """padding = [top, bottom, left, right]; mode = "zeros" | "replicate"."""
    top, bottom, left, right = padding
    return F.pad(x, (left, right, top, bottom), mode={"zeros": "constant", "replicate": "replicate"}[mode])


def conv2d(x, weight, bias, stride, padding, mode="zeros", groups=1):
    """Convolution with explicit padding on each side."""
    return F.conv2d(pad(x, padding, mode), weight, bias, stride=stride, groups=groups)


def soft_clamp(s, alpha):
    """l(s) = alpha * 0.636 * atan(s / alpha); 0.636 is meant, not 2/pi (spec section 5)."""
    return alpha * 0.636 * torch.atan(s / alpha)


def coupling(x, u, gamma, alpha):
    """y = clamp(x exp(l) + t), log-determinant = sum over channels of l; u holds s, then t, before gamma."""
    s, t = (gamma * u).chunk(2, dim=1)
    log_scale = soft_clamp(s, alpha)
    y = (x * log_scale.exp() + t).clamp(-CLAMP, CLAMP)
    return y, log_scale.sum(dim=1, keepdim=True)


def coupling_inverse(y, u, gamma, alpha):
    """x = (y - t) exp(-l), and minus the forward log-determinant."""
    s, t = (gamma * u).chunk(2, dim=1)
    log_scale = soft_clamp(s, alpha)
    return (y - t) * (-log_scale).exp(), -log_scale.sum(dim=1, keepdim=True)


def likelihood_map(z, log_det, mask):
    """mask (|z|^2 / 2 - log-determinant), one channel."""
    return mask * (0.5 * (z * z).sum(dim=1, keepdim=True) - log_det)


def distance_map(student, teacher, mask):
    """mask * mean over channels of (student - teacher)^2, one channel."""
    return mask * ((student - teacher) ** 2).mean(dim=1, keepdim=True)


def masked_mean(values, mask, over="foreground"):
    """Mean of an already masked map over the foreground (sum of the mask), or over every pixel."""
    return values.sum() / (mask.sum() if over == "foreground" else mask.numel())


def positional_encoding(channels, height, width):
    """[1, channels, H, W] in f64: sin, cos over the column, then the same over the row (spec section 4)."""
    depth = channels // 2
    frequency = torch.exp(
        -torch.arange(0, depth, 2, dtype=torch.float64)
        * (torch.log(torch.tensor(1e4, dtype=torch.float64)) / depth)
    )
    code = torch.zeros(1, channels, height, width, dtype=torch.float64)
    column = torch.arange(width, dtype=torch.float64)[:, None] * frequency
    row = torch.arange(height, dtype=torch.float64)[:, None] * frequency
    code[0, 0:depth:2] = torch.sin(column).T[:, None, :]
    code[0, 1:depth:2] = torch.cos(column).T[:, None, :]
    code[0, depth::2] = torch.sin(row).T[:, :, None]
    code[0, depth + 1 :: 2] = torch.cos(row).T[:, :, None]
    return code
