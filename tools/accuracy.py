"""Trains and evaluates the tiny preset on the real data sets with three seeds and prints mean ± deviation.

    cargo build --release && python tools/accuracy.py ../shared/data --out runs/accuracy

Needs nothing but Python. What was done before is not done again: remove the folder to start anew.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import time

SEEDS = (0, 1, 2)
# The road's disparity maps have no metric unit; a count is taken for a hundredth of a millimetre.
ROAD = ("depth.background=none", "depth.unit_mm=0.01")
RUNS = (
    ("screw", "mvtec_ad/screw", "rgb", ()),
    ("pothole", "pothole_rgbd", "rgb", ROAD),
    ("pothole", "pothole_rgbd", "depth", ROAD),
    ("pothole", "pothole_rgbd", "rgb+depth", ROAD),
)
FIGURES = ("image_auroc", "pixel_auroc", "aupro", "f1")


def measure(program, data, weights, cache, folder, modality, settings, seed):
    """The metrics of one training, from its file where it is there."""
    result = folder / "metrics.json"
    if result.exists():
        return json.loads(result.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    cached = ["--cache", cache]  # the first seed extracts, the others read
    train = [program, "train", data, *cached, "--modality", modality, "--seed", str(seed), "--out", folder]
    if "rgb" in modality:
        train += ["--weights", weights]
    for setting in settings:
        train += ["--set", setting]
    started = time.monotonic()
    subprocess.run(train, check=True, stdout=subprocess.DEVNULL)
    evaluate = [program, "evaluate", folder, data, *cached, "--json"]
    metrics = json.loads(subprocess.run(evaluate, check=True, stdout=subprocess.PIPE).stdout)["mean"]
    metrics["seconds"] = time.monotonic() - started
    result.write_text(json.dumps(metrics))
    return metrics


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=pathlib.Path, help="folder with mvtec_ad, pothole_rgbd and weights")
    parser.add_argument("--program", type=pathlib.Path, default=pathlib.Path("target/release/astray"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/accuracy"))
    parser.add_argument("--only", help="the runs whose name or modality is this")
    options = parser.parse_args()
    weights = options.data / "weights/efficientnetv2-b0-imagenet-to-block6h.safetensors"
    for name, data, modality, settings in RUNS:
        if options.only not in (None, name, modality):
            continue
        all_metrics = []
        for seed in SEEDS:
            folder = options.out / f"{name}-{modality}-{seed}"
            cache = options.out / "cache"
            run = (options.program, options.data / data, weights, cache, folder, modality, settings, seed)
            all_metrics.append(measure(*run))
            print(name, modality, "seed", seed, all_metrics[-1], flush=True)
        for figure in FIGURES:
            values = [100 * metrics[figure] for metrics in all_metrics]
            print(f"{name} {modality}: {figure} {statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}")
        seconds = ", ".join(f"{metrics['seconds']:.0f}" for metrics in all_metrics)
        print(f"{name} {modality}: {seconds} s", flush=True)


if __name__ == "__main__":
    main()
