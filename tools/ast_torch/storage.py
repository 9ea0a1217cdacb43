"""The reference files: safetensors, f32, astray's layouts, and who made them."""

import json
import math

import numpy as np
import torch
from safetensors.numpy import save_file

from . import generator

SAMPLES = 4096


def to_nchw(array):
    """numpy N,H,W,C (f32 values) -> torch N,C,H,W in f64."""
    return torch.from_numpy(np.ascontiguousarray(array)).double().permute(0, 3, 1, 2).contiguous()


def to_nhwc(tensor):
    """torch N,C,H,W -> numpy N,H,W,C."""
    return tensor.detach().permute(0, 2, 3, 1).contiguous().numpy()


def to_weight(tensor):
    """torch convolution weight (or its gradient) -> [kh,kw,C_in,C_out]; depthwise [C,1,k,k] -> [kh,kw,C]."""
    return tensor.detach().permute(2, 3, 1, 0).contiguous().numpy()


def stride(count):
    """Step of the sampled positions k * stride mod count: near count / golden ratio, coprime to count."""
    step = max(1, int(count * 0.6180339887))
    while math.gcd(step, count) != 1:
        step += 1
    return step


class Store:
    """Collects named arrays and writes one safetensors file."""

    def __init__(self, about):
        self.tensors = {}
        self.shapes = {}
        self.metadata = {
            "made_by": "tools/reference.py",
            "about": about,
            "generator": generator.RULE,
            "base_seed": str(generator.BASE_SEED),
            "torch": torch.__version__.split("+")[0],
        }

    def add(self, name, array):
        """The whole array, as f32."""
        array = np.asarray(array)
        if not np.isfinite(array).all():
            raise SystemExit(f"{name}: not finite")
        self.tensors[name] = np.ascontiguousarray(array.astype(np.float32))

    def add_sampled(self, name, array):
        """A large array: `name.sample` (4096 values), `name.norm` (L2, f64); shape and stride in the metadata."""
        array = np.asarray(array)
        if array.size <= SAMPLES:
            self.add(name, array)
            return
        step = stride(array.size)
        positions = np.arange(SAMPLES, dtype=np.int64) * step % array.size
        self.add(f"{name}.sample", array.reshape(-1)[positions])
        self.tensors[f"{name}.norm"] = np.array([np.linalg.norm(array.astype(np.float64))])
        self.shapes[name] = {"shape": list(array.shape), "stride": step}

    def write(self, path):
        """Writes the file; the metadata's `sampled` lists shape and stride of every sampled array."""
        if self.shapes:
            self.metadata["sampled"] = json.dumps(self.shapes)
            self.metadata["sampling"] = (
                f"value k of NAME.sample is element (k*stride) mod numel, k < {SAMPLES}"
            )
        save_file(self.tensors, path, metadata=self.metadata)
        path.chmod(0o644)
        print(f"{path.name}: {len(self.tensors)} tensors, {path.stat().st_size / 1e6:.2f} MB", flush=True)
