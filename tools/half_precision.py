"""Scores and verdicts in f16 beside f32, of a model on a data set's test pictures, on one GPU.

    cargo build --release
    target/release/astray train ../shared/data/mvtec_ad/screw --out model
    python tools/half_precision.py model ../shared/data/mvtec_ad/screw --device 0

Wanted: every score within 1 % of that in f32, and the same verdicts. Exits 1 where it is not so. Needs nothing but Python.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

TOLERANCE = 1e-2
KINDS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def files(data, sensor):
    """Of a layout test/<kind>/<sensor>/, or of test/<kind>/ for pictures alone."""
    found = list(data.glob(f"test/*/{sensor}/*")) or (list(data.glob("test/*/*")) if sensor == "rgb" else [])
    return sorted(path for path in found if path.suffix.lower() in KINDS)


def predictions(options, precision, pictures):
    """{path: (score, verdict)}"""
    command = [options.program, "predict", options.model, *pictures, "--device", options.device, "--json"]
    command += ["--precision", precision]
    if options.depth:
        command += ["--depth", *files(options.data, options.depth)[:: options.every]]
    out = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = map(json.loads, out.splitlines())
    return {line["path"]: (line["score"], line["defective"]) for line in lines}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path, help="folder with test/<kind>/ or test/<kind>/rgb/")
    parser.add_argument("--depth", help="folders of the depth maps beside rgb/, for a model of both sensors")
    parser.add_argument("--device", default="gpu")
    parser.add_argument("--every", type=int, default=1, help="take each n-th picture")
    parser.add_argument("--program", type=pathlib.Path, default=pathlib.Path("target/release/astray"))
    options = parser.parse_args()
    pictures = files(options.data, "rgb")[:: options.every]
    if not pictures:
        sys.exit(f"{options.data}: no pictures in test/<kind>/ or test/<kind>/rgb/")
    single, half = (predictions(options, precision, pictures) for precision in ("f32", "f16"))
    apart = {path: abs(half[path][0] / score - 1) for path, (score, _) in single.items()}
    turned = [path for path, (_, verdict) in single.items() if verdict != half[path][1]]
    worst = max(apart, key=apart.get)
    print(f"{len(pictures)} pictures: apart by {statistics.median(apart.values()):.1e} (median), {apart[worst]:.1e} ({worst})")
    defects = sum(verdict for _, verdict in single.values())
    print(f"{defects} defects in f32; other verdicts in f16: {len(turned)}")
    for path in turned:
        print(f"  {path}: {single[path]} in f32, {half[path]} in f16")
    sys.exit(bool(turned) or not apart[worst] <= TOLERANCE)


if __name__ == "__main__":
    main()
