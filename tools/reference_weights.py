"""Makes the PyTorch checkpoints of tests/reference/weights: python tools/reference_weights.py

The values follow one rule, element i of a tensor is start + i / 8, so that every value is exact in
half precision and the Rust test needs no second file to compare with.
"""

from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

FOLDER = Path(__file__).parents[1] / "tests/reference/weights"


def ramp(start, *shape):
    count = torch.Size(shape).numel()
    return (start + torch.arange(count) / 8).reshape(shape)


def plain():
    """What a module's state_dict() gives: OrderedDict with _metadata, and an integer counter."""
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3))
    state = model.state_dict()
    for i, value in enumerate(state.values()):
        if value.is_floating_point():
            value.copy_(ramp(i, *value.shape))
    return state


def nested():
    """A training checkpoint whose tensors are views, parameters and of every float type."""
    table = ramp(0, 4, 3)
    state = OrderedDict(
        transposed=table.t(),
        row=table[2],  # shares the storage, starts at element 6
        half=ramp(1, 2, 2).half(),
        bfloat16=ramp(2, 3).bfloat16(),
        double=ramp(3, 3).double(),
        parameter=nn.Parameter(ramp(4, 2)),
        scalar=torch.tensor(5.5),
        empty=torch.zeros(0, 3),
    )
    return {"epoch": 300, "loss": 0.25, "names": ["a", "b"], "done": True, "state_dict": state}


def from_data_parallel():
    """A checkpoint with an object of another class beside the state dict, names as DataParallel has them."""
    state = OrderedDict(("module." + name, value) for name, value in plain().items())
    return {"model": state, "args": Namespace(lr=2e-4)}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.save(plain(), FOLDER / "plain.pth")
    torch.save(nested(), FOLDER / "nested.pth")
    # The format before PyTorch 1.6, in which the weights of 2019 and 2020 were published.
    torch.save(nested(), FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(plain(), FOLDER / "legacy_plain.pth", _use_new_zipfile_serialization=False)
    torch.save(from_data_parallel(), FOLDER / "data_parallel.pth")
