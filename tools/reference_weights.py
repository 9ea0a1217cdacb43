"""Writes the small .pth files of tests/reference/weights: python tools/reference_weights.py

Tensor values are told by their names and shapes, so that the test can state them:
element i (row-major) of a float tensor is i / 4, exact in f16 and bf16.
"""

import argparse
import collections
import os
import pathlib
import pickle
import zipfile

import torch

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "reference" / "weights"


def quarters(*shape):
    count = torch.Size(shape).numel()
    return (torch.arange(count, dtype=torch.float32) / 4).reshape(shape)


def tensors():
    """Every way in which a state dict holds a tensor."""
    shared = quarters(12)
    return collections.OrderedDict(
        plain=quarters(2, 3),
        half=quarters(5).half(),
        bfloat=quarters(5).bfloat16(),
        double=quarters(3).double(),
        # Strides (1, 4): the transpose of a [3, 4] array.
        transposed=quarters(3, 4).t(),
        # Two views of one storage, one with an offset.
        head=shared[:4],
        tail=shared[4:].reshape(2, 4),
        parameter=torch.nn.Parameter(quarters(2, 2)),
        scalar=torch.tensor(0.25),
        empty=torch.zeros(0, 3),
        num_batches_tracked=torch.tensor(7),
    )


class Call:
    """Pickles as the call of a function, as a hostile file would."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def write_hostile(path):
    """A zip with a pickle that would make a folder if anything executed it."""
    content = {"weight": Call(os.mkdir, "must_not_exist")}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hostile/data.pkl", pickle.dumps(content, protocol=2))


def write_beyond(path):
    """A tensor whose strides reach beyond its storage, as torch itself would never save it."""
    whole = path.with_suffix(".whole")
    torch.save({"weight": torch.zeros(4)}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                # Shape (4,) becomes (200,): K\x04\x85 is "integer 4, tuple of one".
                content = content.replace(b"K\x04\x85", b"K\xc8\x85")
            archive.writestr(name, content)
    whole.unlink()


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.save(tensors(), FOLDER / "state_dict.pth")
    torch.save(tensors(), FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)
    nested = collections.OrderedDict(("module." + name, value) for name, value in list(tensors().items())[:2])
    checkpoint = {"epoch": 3, "state_dict": nested, "args": argparse.Namespace(lr=2e-4), "best": 0.5}
    torch.save(checkpoint, FOLDER / "checkpoint.pth")
    torch.save(torch.nn.Linear(1, 1), FOLDER / "whole_model.pth")
    write_hostile(FOLDER / "hostile.pth")
    write_beyond(FOLDER / "beyond.pth")
    for path in sorted(FOLDER.glob("*.pth")):
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
