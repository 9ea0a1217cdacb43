"""The pictures of pillqc in folders of good parts and defects; it has no masks."""

import shutil

TRAINED_ON = 100  # of 149 good ones, the first by name


def arranged(source, folder):
    """`folder` with `train/good`, `test/good`, `test/chip` and `test/dirt`."""
    for kind in ("normal", "chip", "dirt"):
        for i, picture in enumerate(sorted((source / "images" / kind).glob("*.jpg"))):
            is_train = kind == "normal" and i < TRAINED_ON
            target = folder / ("train" if is_train else "test") / ("good" if kind == "normal" else kind)
            target.mkdir(parents=True, exist_ok=True)
            if not (target / picture.name).exists():
                shutil.copy(picture, target)
    return folder
