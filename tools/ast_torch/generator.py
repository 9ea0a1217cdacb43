"""Seeded tensors that Rust makes again bit for bit, so that inputs and weights need no storing.

seed       = FNV-1a-64(name) XOR base_seed
z          = seed + (i + 1) * 0x9E3779B97F4A7C15                    (mod 2^64, i = row-major index)
z          = (z ^ z >> 30) * 0xBF58476D1CE4E5B9
z          = (z ^ z >> 27) * 0x94D049BB133111EB
z          =  z ^ z >> 31                                           (splitmix64)
u          = (z >> 40) / 2^24                                       in [0, 1), exact
element i  = f32(offset + (2 u - 1) * bound)                        computed in f64
"""

import math

import numpy as np
import torch

BASE_SEED = 0xA57A
MASK64 = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15

# What every file records about its inputs.
RULE = (
    "seed = fnv1a64(name) ^ base_seed; splitmix64 counter z = seed + (i+1)*0x9E3779B97F4A7C15; "
    "u = (z>>40)/2^24; value = f32(offset + (2u-1)*bound); row-major in N,H,W,C / [kh,kw,C_in,C_out] / [kh,kw,C]"
)


def fnv1a64(name):
    """FNV-1a, 64 bits, of a UTF-8 string."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK64
    return state


def uniform(name, count, base_seed=BASE_SEED):
    """`count` values u in [0, 1), f64, exact multiples of 2^-24."""
    seed = np.uint64(fnv1a64(name) ^ base_seed)
    with np.errstate(over="ignore"):
        z = seed + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**24


def tensor(name, shape, bound=1.0, offset=0.0, base_seed=BASE_SEED):
    """f32 array of `shape`, uniform in offset ± bound."""
    u = uniform(name, math.prod(shape), base_seed)
    return (offset + (2.0 * u - 1.0) * bound).astype(np.float32).reshape(shape)


def picture(name, height, width, base_seed=BASE_SEED):
    """A structured 8-bit picture [H, W, 3]; smooth waves and 10 % noise.

    p(y,x,c) = 0.5 + 0.25 sin(0.11 x + 0.07 y + c) + 0.15 cos(0.031 x y / H) + 0.1 (u - 0.5)
    pixel    = floor(255 clamp(p, 0, 1) + 0.5)
    """
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    noise = uniform(name, height * width * 3, base_seed).reshape(height, width, 3)
    value = (
        0.5
        + 0.25 * np.sin(0.11 * x + 0.07 * y + c)
        + 0.15 * np.cos(0.031 * x * y / height)
        + 0.1 * (noise - 0.5)
    )
    return np.floor(255.0 * np.clip(value, 0.0, 1.0) + 0.5).astype(np.uint8)


def normalised(pixels, lite=False):
    """8-bit pixels [H, W, 3] -> N,C,H,W f64 with ImageNet mean and standard deviation; `lite`: (x - 127) / 128."""
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    if lite:
        mean, deviation = 127.0 / 255.0, 128.0 / 255.0
    value = (pixels.astype(np.float64) / 255.0 - mean) / deviation
    return torch.from_numpy(value).permute(2, 0, 1)[None].contiguous()


def conv_weight(name, kernel, inputs, outputs, gain, base_seed=BASE_SEED):
    """Seeded [k,k,C_in,C_out], bound gain / sqrt(fan_in), returned as PyTorch's [C_out,C_in,k,k] in f64."""
    bound = gain / math.sqrt(kernel * kernel * inputs)
    weight = tensor(name, (kernel, kernel, inputs, outputs), bound, base_seed=base_seed)
    return torch.from_numpy(weight).double().permute(3, 2, 0, 1).contiguous()


def depthwise_weight(name, kernel, channels, gain, base_seed=BASE_SEED):
    """Seeded [k,k,C], bound gain / k, returned as PyTorch's [C,1,k,k] in f64."""
    weight = tensor(name, (kernel, kernel, channels), gain / kernel, base_seed=base_seed)
    return torch.from_numpy(weight).double().permute(2, 0, 1)[:, None].contiguous()


def vector(name, count, bound=1.0, offset=0.0, base_seed=BASE_SEED):
    """Seeded vector in f64 (its values are f32)."""
    return torch.from_numpy(tensor(name, (count,), bound, offset, base_seed)).double()
