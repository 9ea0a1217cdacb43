"""Trains the same asymmetric student-teacher in PyTorch, to know what a PyTorch run gives.

    python tools/peer_train.py ../shared/data/mvtec_ad/screw --weights WEIGHTS.safetensors --seeds 0 1 2

The defaults are those that the preset `tiny` had before it whitened its features; the presets of the paper are options away (--hidden 1024 --width 1024 ...).
"""

import argparse
import math
import pathlib
import statistics
import tempfile
import time

import torch
from ast_torch import datasets, operators, scoring
from ast_torch.real_nvp import Teacher
from ast_torch.student import Student


def batches(count, size, generator):
    """Shuffled index batches; the last incomplete one is dropped unless it is the only one."""
    order = torch.randperm(count, generator=generator)
    parts = order.split(size)
    return parts[:-1] if len(parts) > 1 and len(parts[-1]) < size else parts


def optimise(model, loss_of, count, epochs, options, generator, label):
    """Adam over shuffled batches; prints the loss now and then."""
    optimiser = torch.optim.Adam(model.parameters(), lr=options.lr, weight_decay=options.decay)
    model.train()
    for epoch in range(epochs):
        losses = []
        parts = batches(count, options.batch, generator)
        for step, index in enumerate(parts):
            if options.schedule == "cosine":
                done = (epoch + step / len(parts)) / epochs
                optimiser.param_groups[0]["lr"] = options.lr * (0.5 + 0.5 * math.cos(math.pi * done))
            optimiser.zero_grad()
            loss = loss_of(index)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        if epoch % 10 == 0 or epoch + 1 == epochs:
            print(f"  {label} epoch {epoch + 1}/{epochs}: loss {statistics.mean(losses):.4f}", flush=True)
    model.eval()


def standardise(train, test):
    """Channels of mean 0 and variance 1 over the training set's foreground."""
    (x, mask), (test_x, test_mask) = train, test
    mean = (x * mask).sum((0, 2, 3)) / mask.sum()
    mean = mean[None, :, None, None]
    std = (((x - mean) ** 2 * mask).sum((0, 2, 3)) / mask.sum()).sqrt()[None, :, None, None]
    std = torch.where(std > 1e-5 * mean.abs(), std, 1.0)
    return ((x - mean) / std, mask), ((test_x - mean) / std, test_mask)


@torch.no_grad()
def latent(teacher, x):
    """The teacher's outputs, in pieces."""
    return torch.cat([teacher(part)[0] for part in x.split(8)])


def run(seed, train, test, options):
    """One training; returns the test maps."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    (x, mask), (test_x, test_mask) = train, test
    channels = x.shape[1]
    teacher = Teacher(channels, options.hidden, tuple(options.kernels), options.alpha)
    student = Student(channels, options.width, options.blocks, options.slope)
    optimise(
        teacher,
        lambda i: teacher.loss(x[i], mask[i], options.loss_mean),
        len(x),
        options.teacher_epochs,
        options,
        generator,
        "teacher",
    )
    target = latent(teacher, x)
    optimise(
        student,
        lambda i: student.loss(x[i], target[i], mask[i]),
        len(x),
        options.student_epochs,
        options,
        generator,
        "student",
    )
    with torch.no_grad():
        pieces = zip(test_x.split(8), test_mask.split(8))
        return torch.cat(
            [operators.distance_map(student(part), teacher(part)[0], where) for part, where in pieces]
        )


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="dataset category (train/good, test/...)")
    parser.add_argument(
        "--weights", type=pathlib.Path, help="EfficientNetV2-B0 safetensors (for rgb and rgbd)"
    )
    parser.add_argument("--modality", choices=("rgb", "depth", "rgbd"), default="rgb")
    parser.add_argument("--side", type=int, default=768, help="pixels; the map has side / 32")
    parser.add_argument("--depth-scale", type=float, default=1e-5, help="metres per unit of the depth map")
    parser.add_argument("--foreground", choices=("plane", "all"), default="plane")
    parser.add_argument("--hidden", type=int, default=64, help="teacher's hidden width")
    parser.add_argument("--kernels", type=int, nargs="+", default=[3, 3, 3, 3])
    parser.add_argument("--alpha", type=float, default=1.9)
    parser.add_argument("--width", type=int, default=128, help="student's width")
    parser.add_argument("--blocks", type=int, default=2, help="student's residual blocks")
    parser.add_argument("--slope", type=float, default=0.2)
    parser.add_argument("--teacher-epochs", type=int, default=12)
    parser.add_argument("--student-epochs", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--schedule", choices=("constant", "cosine"), default="cosine")
    parser.add_argument("--standardise", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--hold-out", type=int, default=10, help="every n-th good part is kept back; 0: none")
    parser.add_argument("--decay", type=float, default=1e-5)
    parser.add_argument("--loss-mean", choices=("foreground", "all"), default="foreground")
    parser.add_argument("--score", choices=("max", "top", "mean"), default="top")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--cache", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "ast-torch-features"
    )
    options = parser.parse_args()
    if "rgb" in options.modality and options.weights is None:
        parser.error(f"--modality {options.modality} needs --weights")
    return options


def main():
    options = arguments()
    torch.set_num_threads(2)
    items = datasets.scan(options.folder)
    if options.hold_out:
        kept = [item for i, item in enumerate(items[0]) if i % options.hold_out != options.hold_out - 1]
        items = [kept, items[1]]
    train, test = (
        datasets.inputs(
            part,
            options.modality,
            options.weights,
            options.side,
            options.cache,
            options.depth_scale,
            options.foreground,
        )
        for part in items
    )
    if options.standardise:
        train, test = standardise(train, test)
    results = []
    for seed in options.seeds:
        started = time.monotonic()
        results.append(scoring.evaluate(items[1], run(seed, train, test, options), options.score))
        print(
            f"seed {seed}: image AUROC {results[-1][0]:.4f}, pixel AUROC {results[-1][1]:.4f}, {time.monotonic() - started:.0f} s",
            flush=True,
        )
    for name, values in zip(("image AUROC", "pixel AUROC"), zip(*results)):
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        print(
            f"{options.folder.name} {options.modality}: {name} {statistics.mean(values):.4f} ± {deviation:.4f} over {len(values)} seeds"
        )


if __name__ == "__main__":
    main()
