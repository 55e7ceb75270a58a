"""`faces`, the embedded data set: faces drawn by the program from random factors, in the manner of CelebA.

No file is read. A face is a row of factors (`FACTOR_NAMES`, continuous causes and presences in {0, 1}); its picture and its attributes
are functions of that row, so the *same* face can be drawn again with other glasses: an exact yardstick for attribute edits.
CelebA: Liu et al. 2015 (1411.7766), whose attribute names are used where they mean the same.
"""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track

from zoo.data.faces.drawing import render
from zoo.data.faces.scene import FACTOR_NAMES, HAIR_COLORS
from zoo.data.source import SPLITS, Chunk, Listing, Source
from zoo.errors import ZooError, nearest

DRAWING_VERSION = 1  # raise it whenever the same seed gives other pixels or attributes
_DRAWS = 96  # uniforms per face, some in reserve
_THREADS = min(4, os.cpu_count() or 1)

_BEARD = ("beard", "beard_style", "beard_density")
_HAIR = ("hair_color", "hair_shade")

# What makes an attribute: its factors, copied together when a face is redrawn.
FACTOR_GROUPS: dict[str, tuple[str, ...]] = {
    "5_o_Clock_Shadow": _BEARD,
    "Arched_Eyebrows": ("brow_arch",),
    "Bald": ("bald",),
    "Bangs": ("bangs", "bangs_length"),
    "Big_Lips": ("lip_fullness",),
    "Big_Nose": ("nose_width", "nose_length"),
    "Black_Hair": _HAIR,
    "Blond_Hair": _HAIR,
    "Brown_Hair": _HAIR,
    "Bushy_Eyebrows": ("brow_thickness",),
    "Eyeglasses": tuple(name for name in FACTOR_NAMES if name.startswith("glasses")),
    "Goatee": _BEARD,
    "Gray_Hair": _HAIR,
    "Male": ("male",),
    "Mouth_Slightly_Open": ("mouth_open",),
    "Mustache": ("moustache", "moustache_width", "moustache_thickness"),
    "Narrow_Eyes": ("eye_open",),
    "No_Beard": _BEARD,
    "Pale_Skin": ("skin_tone",),
    "Rosy_Cheeks": ("blush",),
    "Smiling": ("smile",),
    "Wavy_Hair": ("hair_wave",),
    "Wearing_Hat": tuple(name for name in FACTOR_NAMES if name.startswith("hat")),
    "Wearing_Lipstick": ("lipstick", "lipstick_hue"),
    "Young": ("age",),
}
ATTRIBUTE_NAMES = tuple(FACTOR_GROUPS)


# An attribute that is a matter of degree: its factor lies above, or below, a threshold. No sampled face comes closer than _GAP.
_ABOVE = {
    "Arched_Eyebrows": ("brow_arch", 0.35),
    "Big_Lips": ("lip_fullness", 0.35),
    "Big_Nose": ("nose_width", 0.4),
    "Bushy_Eyebrows": ("brow_thickness", 0.4),
    "Mouth_Slightly_Open": ("mouth_open", 0.2),
    "Rosy_Cheeks": ("blush", 0.55),
    "Smiling": ("smile", 0.4),
    "Wavy_Hair": ("hair_wave", 0.5),
}
_BELOW = {"Narrow_Eyes": ("eye_open", 0.25), "Pale_Skin": ("skin_tone", 0.12), "Young": ("age", 0.6)}
_GAP = 0.08


def attributes_of(factors: np.ndarray) -> np.ndarray:
    """The attributes (N, A) uint8 in {0, 1}, in the order of ATTRIBUTE_NAMES, of faces with these factors (N, F)."""
    f = dict(zip(FACTOR_NAMES, np.asarray(factors, np.float32).T, strict=True))
    haired, beard = f["bald"] < 0.5, f["beard"] > 0.5
    truth = {name: f[factor] > threshold for name, (factor, threshold) in _ABOVE.items()}
    truth |= {name: f[factor] < threshold for name, (factor, threshold) in _BELOW.items()}
    truth |= {f"{color.title()}_Hair": haired & (np.rint(f["hair_color"]) == i) for i, color in enumerate(HAIR_COLORS)}
    truth |= {
        "5_o_Clock_Shadow": beard & (f["beard_style"] < 1 / 3),
        "Bald": ~haired,
        "Bangs": haired & (f["bangs"] > 0.5),
        "Eyeglasses": f["glasses"] > 0.5,
        "Goatee": beard & (f["beard_style"] >= 1 / 3) & (f["beard_style"] < 2 / 3),
        "Male": f["male"] > 0.5,
        "Mustache": f["moustache"] > 0.5,
        "No_Beard": ~beard,
        "Wavy_Hair": haired & truth["Wavy_Hair"],
        "Wearing_Hat": f["hat"] > 0.5,
        "Wearing_Lipstick": f["lipstick"] > 0.5,
    }
    return np.stack([truth[name] for name in ATTRIBUTE_NAMES], 1).astype(np.uint8)


def sample_factors(count: int, seed: int, stream: int = 0) -> np.ndarray:
    """Random faces: factors (count, F) float32. Row i depends on seed, stream and i only.

    The uniforms are the raw words of Philox, which numpy keeps for ever; its Generator's streams may change with a version (NEP 19).
    """
    raw = np.random.Philox(key=seed + (stream << 64)).random_raw(count * _DRAWS)
    uniforms = iter((np.asarray(raw, np.uint64).reshape(count, _DRAWS) >> np.uint64(11)).T * 2.0**-53)

    # Each call below takes the next column of uniforms: new ones go to the end, or every face changes.
    def u(low: float = 0.0, high: float = 1.0) -> np.ndarray:
        return low + (high - low) * next(uniforms)

    def bell(low: float = -1.0, high: float = 1.0) -> np.ndarray:
        """Triangular between low and high: the middle is most likely."""
        p = next(uniforms)
        return low + (high - low) * np.where(p < 0.5, np.sqrt(p / 2), 1 - np.sqrt((1 - p) / 2))

    def chance(probability: Any) -> np.ndarray:
        return (next(uniforms) < probability).astype(np.float64)

    f: dict[str, np.ndarray] = {}
    f["male"] = male = chance(0.45)
    f["age"] = age = u() ** 1.25
    f["skin_tone"] = tone = u() ** 1.3
    f["yaw"], f["tilt"], f["zoom"] = bell(-0.32, 0.32), bell(-0.16, 0.16), bell(0.9, 1.0)
    f["shift_x"], f["shift_y"] = bell(-0.06, 0.06), bell(-0.02, 0.06)
    f["light_x"], f["light_y"], f["warmth"] = u(-0.8, 0.8), u(-0.75, -0.2), bell()
    f["back_hue"] = np.interp(u(), [0, 0.5, 0.65, 1], [0.35, 0.63, 0.9, 1.15])  # few purples
    f["back_hue_shift"], f["back_angle"] = bell(-0.1, 0.1), u(0, 6.2832)
    f["back_saturation"], f["back_lightness"] = u(0.04, 0.3), u(0.35, 0.82)
    f["cloth_hue"], f["cloth_saturation"], f["cloth_lightness"], f["cloth_neck"] = u(), u(0.03, 0.5), u(0.15, 0.85), u()
    f["skin_warmth"], f["blush"] = bell(), np.clip(bell(-0.4, 0.9) + 0.25 * (1 - male), 0, 1)
    f["face_width"], f["chin"], f["jaw"] = bell(), bell(), bell(-0.5, 0.5) + 0.55 * male
    f["eye_size"], f["eye_spacing"], f["eye_slant"] = bell() + 0.3 * (1 - male) + 0.1, bell(), bell()
    f["eye_open"] = np.clip(bell(0.05, 1.15) - 0.15 * age, 0, 1)
    f["iris"] = np.where(tone > 0.55, u(0, 1.4), u(0, 5))
    f["gaze_x"], f["gaze_y"] = bell(), bell()
    f["brow_thickness"] = bell(-1.1, 0.9) + 0.45 * male
    f["brow_arch"], f["brow_height"] = bell(-0.9, 0.9) + 0.35 * (1 - male), bell()
    f["nose_width"], f["nose_length"] = bell(-1.0, 1.0) + 0.2 * male, bell()
    f["smile"] = np.clip(u(-0.35, 1.15), -0.3, 1)
    f["mouth_open"] = chance(0.35 + 0.3 * (f["smile"] > 0.4)) * u(0.22, 1)
    f["mouth_width"], f["lip_fullness"] = bell(), bell(-0.9, 0.9) + 0.2 * (1 - male)
    f["lipstick"], f["lipstick_hue"] = chance(np.where(male > 0.5, 0.01, 0.6)), u()
    f["bald"] = chance(np.where(male > 0.5, 0.06 + 0.14 * (age > 0.5), 0.005))
    gray = 0.85 * np.clip((age - 0.55) / 0.4, 0, 1)
    dark = np.clip((tone - 0.35) * 2, 0, 0.9)  # dark skin goes with dark hair
    shares = np.stack([0.27 + 0.6 * dark, 0.33 - 0.1 * dark, 0.26 * (1 - dark), 0 * dark, 0.12 * (1 - dark)])  # as HAIR_COLORS
    shares = shares / shares.sum(0) * (1 - gray)
    shares[3] = gray
    f["hair_color"] = (u() > np.cumsum(shares, 0)[:4]).sum(0).astype(np.float64)
    f["hair_shade"], f["hair_volume"], f["hair_detail"] = bell(), u(), u()
    f["hair_length"] = np.where(male > 0.5, np.clip(u(-0.05, 0.36) + 0.4 * chance(0.08), 0, 1), np.clip(bell(0.36, 1.16), 0, 1))
    f["hair_wave"], f["hair_part"] = u() * (0.4 + 0.6 * chance(0.6)), bell()
    f["hair_line"] = bell(-0.8, 0.8) + 0.8 * male * np.clip(age - 0.4, 0, 1)
    f["bangs"], f["bangs_length"] = chance(np.where(male > 0.5, 0.1, 0.32)), u()
    f["beard"], f["beard_style"], f["beard_density"] = beard, style, _ = chance(np.where(male > 0.5, 0.48, 0.0)), u(), u()
    f["moustache"] = chance(np.where(male > 0.5, 0.1 + beard * np.where(style > 1 / 3, 0.65, 0.05), 0.0))
    f["moustache_width"], f["moustache_thickness"] = u(), u()
    f["glasses"], f["glasses_shape"], f["glasses_size"] = chance(0.16 + 0.12 * age), u(), u()
    f["glasses_thickness"], f["glasses_hue"], f["glasses_lightness"] = u(), u(), u(0.04, 0.6) ** 1.5
    f["glasses_tint"] = np.clip(u(-2.4, 1), 0, 1)
    f["hat"], f["hat_style"], f["hat_height"] = chance(0.13), u(), u()
    f["hat_hue"], f["hat_saturation"], f["hat_lightness"] = u(), u(0.05, 0.38), u(0.18, 0.66)
    for factor, threshold in (*_ABOVE.values(), *_BELOW.values()):
        f[factor] = f[factor] + np.where(f[factor] > threshold, _GAP, -_GAP)
    return np.stack([f[name] for name in FACTOR_NAMES], 1).astype(np.float32)


def swap_factors(target: np.ndarray, **guides: np.ndarray) -> np.ndarray:
    """The targets' factors (N, F), where for each attribute named the guide's factors, (N, F) or (1, F), take over.

    Presence and style go together: from a guide without glasses, `swap_factors(target, Eyeglasses=guide)` takes them off.
    """
    swapped = np.array(target, np.float32)
    for attribute, guide in guides.items():
        if attribute not in FACTOR_GROUPS:
            raise ZooError(f"faces have no attribute {attribute!r}; {nearest(attribute, list(FACTOR_GROUPS))}")
        columns = [FACTOR_NAMES.index(name) for name in FACTOR_GROUPS[attribute]]
        swapped[:, columns] = np.asarray(guide, np.float32)[:, columns]
    return swapped


class Faces(Source):
    """Drawn faces as a source. Each split has random numbers of its own, so its faces do not depend on the others' numbers."""

    name = "faces"
    channels = 3
    attribute_names = ATTRIBUTE_NAMES
    factor_names = FACTOR_NAMES

    def __init__(self, image_size: int = 64, seed: int = 0, train: int = 20_000, val: int = 2_000, test: int = 10_000) -> None:
        """`image_size` in pixels, at least 16; the number of faces in each split, at least 1. Raises ZooError."""
        if image_size < 16:
            raise ZooError(f"image_size={image_size} is too small to draw a face; choose 16 or more.")
        if min(train, val, test) < 1:
            raise ZooError(f"Each split of faces needs at least 1 face, not train={train}, val={val}, test={test}.")
        if not 0 <= seed < 2**64:
            raise ZooError(f"seed={seed} of the faces must lie between 0 and 2**64 - 1.")
        self.image_size, self.seed, self.counts = image_size, seed, (train, val, test)

    def settings(self) -> dict[str, Any]:
        train, val, test = self.counts
        return {"drawing": DRAWING_VERSION, "image_size": self.image_size, "seed": self.seed, "source": self.name,
                "test": test, "train": train, "val": val}  # fmt: skip

    @cached_property
    def factors(self) -> np.ndarray:
        """(N, F) float32, of all splits in order."""
        return np.concatenate([sample_factors(count, self.seed, stream) for stream, count in enumerate(self.counts)])

    def scan(self) -> Listing:
        names = [f"{i + 1:06d}.jpg" for i in range(sum(self.counts))]
        splits = np.repeat(np.arange(len(SPLITS), dtype=np.uint8), self.counts)
        return Listing(names, splits, attributes_of(self.factors), self.factors)

    def read(self, start: int, stop: int) -> Chunk:
        return Chunk(render_in_parallel(self.factors[start:stop], self.image_size))


def render_in_parallel(factors: np.ndarray, size: int | tuple[int, int], square: int | None = None) -> np.ndarray:
    """`render` on several threads (numpy lets go of the interpreter while it computes)."""
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = np.array_split(factors, _THREADS)
        return np.concatenate(list(pool.map(lambda part: render(part, size, square), parts)))


def export_celeba(faces: Faces, directory: str | Path) -> None:
    """Writes the faces in CelebA's layout: img_align_celeba/*.jpg (178 x 218), list_eval_partition.txt, list_attr_celeba.txt.

    The middle 148 x 148 pixels show what `render(factors, 148)` shows, as in CelebA's usual crop. The attributes are written last, and
    an export that breaks off is removed. Raises ZooError if the folder is not empty.
    """
    directory = Path(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ZooError(f"{directory} is not an empty folder; export the faces to a new one.")
    listing = faces.scan()
    count = len(listing.names)
    (directory / "img_align_celeba").mkdir(parents=True)
    try:
        for start in track(range(0, count, 64), "faces as CelebA", disable=count < 512, transient=True):
            images = render_in_parallel(faces.factors[start : start + 64], (218, 178), 148)
            for name, image in zip(listing.names[start : start + 64], images, strict=True):
                Image.fromarray(image.transpose(1, 2, 0)).save(directory / "img_align_celeba" / name, quality=95)
        rows = zip(listing.names, listing.splits, strict=True)
        (directory / "list_eval_partition.txt").write_text("".join(f"{name} {split}\n" for name, split in rows))
        signs = 2 * listing.attributes.astype(int) - 1
        lines = [f"{name} " + " ".join(f"{sign:2d}" for sign in row) for name, row in zip(listing.names, signs, strict=True)]
        (directory / "list_attr_celeba.txt").write_text("\n".join([str(count), " ".join(ATTRIBUTE_NAMES), *lines]) + "\n")
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
