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

from pills import arranged

SEEDS = (0, 1, 2)
# The road's disparity maps have no metric unit; a count is taken for a hundredth of a millimetre.
ROAD = ("depth.background=none", "depth.unit_mm=0.01")
V2_B0 = "weights/efficientnetv2-b0-imagenet-to-block6h.safetensors"
RUNS = (
    ("screw", "mvtec_ad/screw", "rgb", V2_B0, ()),
    ("screw", "mvtec_ad/screw", "rgb", None, ()),
    ("pillqc", "pillqc", "rgb", V2_B0, ()),
    ("pillqc", "pillqc", "rgb", None, ()),
    ("pothole", "pothole_rgbd", "rgb", V2_B0, ROAD),
    ("pothole", "pothole_rgbd", "rgb", None, ROAD),
    ("pothole", "pothole_rgbd", "depth", None, ROAD),
    ("pothole", "pothole_rgbd", "rgb+depth", V2_B0, ROAD),
    ("pothole", "pothole_rgbd", "rgb+depth", None, ROAD),
)
FIGURES = ("image_auroc", "pixel_auroc", "aupro", "f1", "best_f1")


def measure(program, data, weights, cache, folder, modality, settings, seed):
    """The metrics of one training, from its file where it is there."""
    result = folder / "metrics.json"
    if result.exists():
        return json.loads(result.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    cached = ["--cache", cache]  # the first seed extracts, the others read
    train = [program, "train", data, *cached, "--modality", modality, "--seed", str(seed), "--out", folder]
    if weights is not None:
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
    parser.add_argument("--only", nargs="+", help="the runs of this name, modality and backbone: screw rgb v2-b0")
    parser.add_argument("--weights", type=pathlib.Path, help="instead of the weights in the program")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of every training")
    options = parser.parse_args()
    extra = tuple(options.set)
    for name, data, modality, weights, settings in RUNS:
        backbone = "none" if modality == "depth" else "default" if weights is None else "v2-b0"
        if options.only and not set(options.only) <= {name, modality, backbone}:
            continue
        data = options.data / data
        if name == "pillqc":
            data = arranged(data, options.out / "pills")
        all_metrics = []
        for seed in options.seeds:
            folder = options.out / f"{name}-{modality}-{backbone}-{seed}"
            file = options.weights if weights is None else options.data / weights
            file = None if modality == "depth" else file
            run = (options.program, data, file, options.out / "cache", folder, modality, settings + extra, seed)
            all_metrics.append(measure(*run))
            print(name, modality, backbone, "seed", seed, all_metrics[-1], flush=True)
        for figure in FIGURES:
            values = [100 * metrics[figure] for metrics in all_metrics if metrics.get(figure) is not None]
            if values:
                spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
                print(f"{name} {modality} {backbone}: {figure} {statistics.mean(values):.1f}{spread}")
        seconds = ", ".join(f"{metrics['seconds']:.0f}" for metrics in all_metrics)
        print(f"{name} {modality} {backbone}: {seconds} s", flush=True)


if __name__ == "__main__":
    main()
