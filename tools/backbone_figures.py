"""astray-b0 beside a random one and ImageNet's V2-B0, on data that its training never saw.

    cargo build --release
    pip install -r tools/requirements_backbone.txt -r tools/requirements.txt
    python tools/backbone_figures.py ../shared/data --out runs/backbone_figures

Two scores for each data set: the nearest neighbour among all features of the good parts (PyTorch, features standardised
per channel, highest value of the map), and AST with the tiny preset (the Rust program), seeds 0, 1 and 2. Nothing was
chosen on these sets. What was done before is not done again: remove the folder to start anew.
"""

import argparse
import hashlib
import json
import pathlib
import statistics
import subprocess
import time

import torch
from ast_torch import datasets, scoring, v2_b0
from backbone import network
from nearest_neighbour import nearest, rows
from pills import arranged

SEEDS = (0, 1, 2)
SETS = ("pillqc", "screw", "pothole")
BACKBONES = ("astray-b0", "v2-b0", "seeded")
V2_B0 = "weights/efficientnetv2-b0-imagenet-to-block6h.safetensors"
CALIBRATION = 8  # pictures that a random network's batch norms are set on


def seeded(pictures, seed):
    """A random network whose batch norms know a few of the pictures."""
    torch.manual_seed(seed)
    net = network.Backbone()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    net.train()
    net(torch.cat([datasets.load_rgb(p, 384) for p in pictures[:: len(pictures) // CALIBRATION][:CALIBRATION]]))
    return net.eval()


@torch.no_grad()
def neighbours(name, seed, folder, options):
    """(image AUROC, pixel AUROC or None) by nearest neighbour."""
    train, test = datasets.scan(folder)
    side = 768 if name == "v2-b0" else 384
    if name == "v2-b0":
        net = v2_b0.load(options.data / V2_B0)
    elif name == "astray-b0":
        net = network.load(options.weights)
    else:
        net = seeded([item.rgb for item in train], seed)
    maps = [torch.cat([net(datasets.load_rgb(item.rgb, side)) for item in items]) for items in (train, test)]
    mean, std = maps[0].mean((0, 2, 3), keepdim=True), maps[0].std((0, 2, 3), keepdim=True)
    bank, queries = ((m - mean) / (std + 1e-9) for m in maps)
    distance = nearest(rows(bank), rows(queries)).reshape(len(test), 1, *queries.shape[2:])
    has_masks = all(item.truth is not None and item.truth.exists() for item in test if item.defective)
    if not has_masks:
        test = [datasets.Item(item.rgb, None, None, item.defective) for item in test]
        scores = scoring.image_scores(distance, scoring.enlarge(distance), "max")
        return scoring.roc_auc_score([item.defective for item in test], scores.numpy()), None
    return scoring.evaluate(test, distance, "max")


def detector(name, seed, data, folder, options):
    """(image AUROC, pixel AUROC or None) of the program's tiny preset."""
    weights = {
        "astray-b0": ["--weights", options.weights, "--set", "backbone.tap=10"],
        "v2-b0": ["--weights", options.data / V2_B0],
        # Of the same shape.
        "seeded": ["--weights", "seeded", "--set", "backbone.name=efficientnet_b0", "--set", "backbone.tap=10"],
    }[name]
    cache = ["--cache", options.out / "cache"]
    model = folder / "model"
    train = [options.program, "train", data, *cache, "--modality", "rgb", "--seed", str(seed), "--out", model, *weights]
    subprocess.run(train, check=True, stdout=subprocess.DEVNULL)
    evaluate = [options.program, "evaluate", model, data, *cache, "--json"]
    mean = json.loads(subprocess.run(evaluate, check=True, stdout=subprocess.PIPE).stdout)["mean"]
    return mean["image_auroc"], mean.get("pixel_auroc")


def measured(path, work):
    """What the file says, or `work()`, which is then kept there."""
    if path.exists():
        return json.loads(path.read_text())
    path.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    image, pixel = work()
    result = {"image": image, "pixel": pixel, "seconds": time.monotonic() - started}
    path.write_text(json.dumps(result))
    return result


def told(results, key):
    """Mean ± deviation in percent."""
    values = [100 * r[key] for r in results if r[key] is not None]
    if not values:
        return "–"
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=pathlib.Path, help="folder with mvtec_ad, pothole_rgbd, pillqc and weights")
    parser.add_argument("--program", type=pathlib.Path, default=pathlib.Path("target/release/astray"))
    parser.add_argument("--weights", type=pathlib.Path, default=pathlib.Path("weights/astray-b0.safetensors"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=BACKBONES)
    parser.add_argument("--scores", nargs="+", choices=("neighbour", "ast"), default=("neighbour", "ast"))
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shipped = hashlib.sha256(options.weights.read_bytes()).hexdigest()[:8]
    folders = {"screw": options.data / "mvtec_ad/screw", "pothole": options.data / "pothole_rgbd"}
    if "pillqc" in options.sets:
        folders["pillqc"] = arranged(options.data / "pillqc", options.out / "pills")
    print("| data | backbone | score | image AUROC | pixel AUROC | s |\n|---|---|---|---|---|---|")
    for score in options.scores:
        for data in options.sets:
            for name in options.backbones:
                results = []
                # A trained backbone's neighbours do not depend on a seed.
                for seed in options.seeds if score == "ast" or name == "seeded" else options.seeds[:1]:
                    which = f"{name}-{shipped}" if name == "astray-b0" else name
                    place = options.out / f"{data}-{which}-{score}-{seed}"
                    if score == "ast":
                        work = lambda s=seed, p=place, n=name, d=data: detector(n, s, folders[d], p, options)
                    else:
                        work = lambda s=seed, n=name, d=data: neighbours(n, s, folders[d], options)
                    results.append(measured(place / "result.json", work))
                seconds = ", ".join(f"{r['seconds']:.0f}" for r in results)
                row = (data, name, score, told(results, "image"), told(results, "pixel"), seconds)
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
