"""Writes every reference file in tests/reference:  python tools/reference.py [PART ...]

Without a PART all are made (about a minute on two cores). The packages are pinned in
tools/requirements.txt. Inputs and weights come from a seeded generator that the Rust tests
reproduce (ast_torch/generator.py), so that only results are stored.
"""

import argparse
import pathlib

import torch
from ast_torch import extractor_cases, lite, operator_cases, random_state, training_cases

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "reference"
PARTS = {
    "operators": operator_cases.write,
    "teacher": training_cases.write_teacher,
    "student": training_cases.write_student,
    "random_state": random_state.write,
    "state_dicts": extractor_cases.write_state_dicts,
    "efficientnet": extractor_cases.write,
    "efficientnet_lite": extractor_cases.write_lite,
    "lite_photograph": lite.write,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)} (default: all)")
    parts = parser.parse_args().parts or list(PARTS)
    for part in parts:
        if part not in PARTS:
            parser.error(f"unknown part {part!r}; the parts are {', '.join(PARTS)}")
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True, warn_only=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for part in parts:
        PARTS[part](FOLDER)


if __name__ == "__main__":
    main()
