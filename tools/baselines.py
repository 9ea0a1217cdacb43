"""What simpler methods, and the same method in PyTorch, make of the very features that a model was trained on.

    astray train DATA --cache CACHE --out MODEL && astray evaluate MODEL DATA --cache CACHE
    python tools/baselines.py MODEL DATA --cache CACHE [--twin 0 1 2]

Nearest neighbour: among all features of the good parts, standardised per channel. Gaussian: Mahalanobis distance under one
normal distribution over all places, its eigenvalues increased by the model's `teacher.shrinkage`. Twin: teacher and
student in PyTorch, with the model's sizes, epochs, whitening and fused score. RGB alone; scores as `score.image = top`.
"""

import argparse
import hashlib
import json
import pathlib
import statistics
import struct
import tomllib

import numpy as np
import torch
from ast_torch import datasets, operators, scoring
from ast_torch.real_nvp import Teacher
from ast_torch.student import Student
from nearest_neighbour import nearest, rows
from peer_train import latent, optimise

FEATURES = 4  # as in src/detector/features.rs
HEADER = 72  # magic, key, sha256


def metadata(model):
    """The metadata of the model's safetensors file."""
    path = next(model.glob("*.safetensors")) if model.is_dir() else model
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length))["__metadata__"]


def cached(items, entry, config, cache):
    """[N,C,h,w] features of these parts, as the program has cached them."""
    taps, resize = config["backbone"]["tap"], config["input"]["resize"].capitalize()
    taps = taps if isinstance(taps, list) else [taps]
    how = f"{FEATURES} {config['backbone']['name']} taps {taps} {entry['padding']} {config['input']['image_size']} {resize}"
    maps = []
    for item in items:
        key = hashlib.sha256()
        for part in (item.rgb.read_bytes(), entry["backbone"].encode(), how.encode()):
            key.update(struct.pack("<Q", len(part)))
            key.update(part)
        stored = (cache / f"{key.hexdigest()}.features").read_bytes()
        shape = struct.unpack_from("<3Q", stored, HEADER + 8)
        maps.append(np.frombuffer(stored, np.float32, offset=HEADER + 32).reshape(shape))
    return torch.from_numpy(np.stack(maps)).permute(0, 3, 1, 2).contiguous()


def told(name, items, maps):
    """Prints image and pixel AUROC in percent; returns them."""
    has_masks = all(item.truth is not None and item.truth.exists() for item in items if item.defective)
    if has_masks:
        image, pixel = scoring.evaluate(items, maps, "top")
    else:
        scores = scoring.image_scores(maps, scoring.enlarge(maps), "top")
        image, pixel = scoring.roc_auc_score([item.defective for item in items], scores.numpy()), float("nan")
    print(f"{name}: image AUROC {100 * image:.1f}, pixel AUROC {100 * pixel:.1f}", flush=True)
    return image, pixel


def whitening(x, shrinkage):
    """(matrix, log-determinant): ZCA of standardised features, W = (C + shrinkage)^(-1/2) for a mean variance of 1."""
    covariance = torch.cov(rows(x).T.double())
    values, vectors = torch.linalg.eigh(covariance)
    scale = (values.clamp_min(0) + shrinkage * values.mean()).rsqrt()
    return (vectors * scale @ vectors.T).float(), scale.log().sum().item()


def twin(seed, train, kept, test, config):
    """The fused maps of the test parts after a training in PyTorch."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    flow, cnn, choices = config["teacher"], config["student"], config["train"]
    options = argparse.Namespace(
        lr=choices["learning_rate"], decay=choices["weight_decay"], batch=choices["batch"], schedule=choices["schedule"]
    )
    teacher = Teacher(train.shape[1], flow["hidden"], tuple(flow["kernels"]), flow["clamp"])
    student = Student(train.shape[1], cnn["width"], cnn["blocks"], cnn["slope"])
    mask = torch.ones(1, 1, *train.shape[2:])
    whole = mask.expand(options.batch, -1, -1, -1)
    of = lambda i: whole[: len(i)]
    loss = lambda i: teacher.loss(train[i], of(i), "foreground")
    optimise(teacher, loss, len(train), choices["teacher_epochs"], options, generator, "teacher")
    target = latent(teacher, train)
    loss = lambda i: student.loss(train[i], target[i], of(i))
    optimise(student, loss, len(train), choices["student_epochs"], options, generator, "student")

    @torch.no_grad()
    def maps(x):
        both = [[], []]
        for part in x.split(8):
            z, log_det = teacher(part)
            both[0].append(operators.distance_map(student(part), z, of(part)))
            both[1].append(operators.likelihood_map(z, log_det, of(part)))
        return [torch.cat(m) for m in both]

    fused = 0
    for good, found in zip(maps(kept), maps(test)):
        middle, high = np.quantile(good.numpy(), [0.5, 0.99])
        fused = fused + 0.5 * (found - float(middle)) / float(high - middle)
    return fused


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path, help="dataset category (train/good, test/...)")
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--twin", type=int, nargs="*", default=[], metavar="SEED")
    options = parser.parse_args()
    torch.set_num_threads(2)
    entry = metadata(options.model)
    config = tomllib.loads(entry["config"])
    train, test = datasets.scan(options.data)
    every = round(1 / config["train"]["hold_out"])
    is_kept = torch.arange(len(train)) % every == every - 1
    x, queries = (cached(items, entry, config, options.cache) for items in (train, test))
    x, kept = x[~is_kept], x[is_kept]
    mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
    x, kept, queries = ((m - mean) / (std + 1e-9) for m in (x, kept, queries))
    distance = nearest(rows(x), rows(queries)).reshape(len(test), 1, *queries.shape[2:])
    told("nearest neighbour", test, distance)
    matrix, _ = whitening(x, config["teacher"]["shrinkage"])
    x, kept, queries = (torch.einsum("nchw,cd->ndhw", m, matrix) for m in (x, kept, queries))
    told("Gaussian", test, queries.square().mean(1, keepdim=True))
    with torch.enable_grad():
        found = [told(f"twin, seed {s}", test, twin(s, x, kept, queries, config)) for s in options.twin]
    for name, values in zip(("image", "pixel"), zip(*found)):
        if len(values) > 1:
            print(f"twin: {name} AUROC {100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}")


if __name__ == "__main__":
    main()
