"""Nearest-neighbour baseline: the distance of every feature to the closest one of the training images.

python tools/nearest_neighbour.py ../shared/data/mvtec_ad/screw --weights WEIGHTS.safetensors
"""

import argparse
import pathlib
import tempfile

import torch
from ast_torch import datasets, scoring, v2_b0


@torch.no_grad()
def nearest(bank, queries, chunk=16384):
    """Euclidean distance of each row of `queries` to its nearest row of `bank`."""
    best = torch.full((len(queries),), float("inf"))
    for part in bank.split(chunk):
        squared = torch.addmm((part * part).sum(1)[None], queries, part.T, alpha=-2.0)
        best = torch.minimum(best, squared.amin(1))
    return (best + (queries * queries).sum(1)).clamp_min(0).sqrt()


def rows(maps):
    """[N,C,g,g] -> [N g g, C]."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="dataset category (train/good, test/...)")
    parser.add_argument("--weights", type=pathlib.Path, required=True, help="EfficientNetV2-B0 safetensors")
    parser.add_argument(
        "--golden", type=pathlib.Path, help="golden activations to check the extractor with first"
    )
    parser.add_argument("--side", type=int, default=768)
    parser.add_argument(
        "--bank", type=int, default=0, help="training features kept, drawn at random (0: all)"
    )
    parser.add_argument("--score", choices=("max", "mean"), default="max")
    parser.add_argument(
        "--cache", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "ast-torch-features"
    )
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.golden:
        for name, error in v2_b0.check(v2_b0.load(options.weights), options.golden).items():
            print(f"golden {name}: relative error {error:.1e}")
    train, test = datasets.scan(options.folder)
    bank = rows(datasets.features(train, options.weights, options.side, options.cache))
    if 0 < options.bank < len(bank):
        bank = bank[torch.randperm(len(bank), generator=torch.Generator().manual_seed(0))[: options.bank]]
    queries = datasets.features(test, options.weights, options.side, options.cache)
    maps = torch.stack([nearest(bank, rows(one[None])).reshape(1, *one.shape[1:]) for one in queries])
    image, pixel = scoring.evaluate(test, maps, options.score)
    print(
        f"{options.folder.name}: nearest neighbour among {len(bank)} features, {options.score} of the map: "
        f"image AUROC {image:.4f}, pixel AUROC {pixel:.4f}"
    )


if __name__ == "__main__":
    main()
