"""A folder of small pictures in ImageNet's layout, made up: the colour tells the class."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"n01_red": (200, 40, 40), "n02_green": (40, 200, 40), "n03_blue": (40, 40, 200)}


def picture(colour, seed: int, size: tuple[int, int] = (40, 36)) -> Image.Image:
    """A noisy picture of one colour, ``size`` = (width, height)."""
    noise = np.random.default_rng(seed).normal(0, 25, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


def write(root: Path, train: int = 8, val: int = 3, swapped: int = 0) -> Path:
    """``root/imagenet/{train,val}/<class>/<picture>.png``; the first ``swapped`` training pictures of each class have the
    colour of the next class. Returns ``root/imagenet``."""
    colours = list(COLOURS.values())
    for split, count in (("train", train), ("val", val)):
        for label, name in enumerate(COLOURS):
            folder = root / "imagenet" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                shown = label + (split == "train" and number < swapped)
                seed = 10_000 * (split == "val") + 100 * label + number
                picture(colours[shown % len(colours)], seed).save(folder / f"{name}_{number:03d}.png")
    return root / "imagenet"
