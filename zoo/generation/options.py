"""What `zoo.generate` can draw, and the options of each: checked before anything slow is imported."""

import math
from typing import Any

from zoo.config.schema import GenerateSettings
from zoo.errors import ZooError
from zoo.evaluation.descriptors import PRIORS

ALL = "all"  # attributes
SHOWN = 1024  # samples in one picture
OPTIONS: dict[str, dict[str, Any]] = {  # what can be drawn -> its options and their defaults
    "samples": {"count": 64, "prior": None},
    "reconstructions": {"count": 16, "image": None},
    "interpolation": {"count": 8, "steps": 11, "image": None},
    "grid": {"steps": 9, "image": None},
    "attribute": {"count": 8, "steps": 7, "attribute": None, "strength": 1.5, "image": None},
    "transfer": {"way": "add"},
}
WAYS: dict[str, dict[str, Any]] = {  # of mode=transfer -> the further options and their defaults
    "add": {"count": 8, "image": None, "guide": None},
    "remove": {"count": 16, "image": None},
    "swap": {"count": 8, "image": None, "guide": None},
    "strength": {"count": 8, "steps": 7, "strength": 1.5, "image": None, "guide": None},
    "interpolation": {"steps": 9, "image": None, "guide": None},
}


def checked_options(settings: GenerateSettings) -> tuple[str, dict[str, Any]]:
    """What is drawn, and its options with their defaults. Raises ZooError, before any work, for what does not fit."""
    mode = settings.mode or ("samples" if settings.attribute is None else "attribute")
    if mode not in OPTIONS:
        raise ZooError(f"mode={mode} cannot be drawn; choose one of {', '.join(OPTIONS)}.")
    options, asked = dict(OPTIONS[mode]), f"mode={mode}"
    if settings.attribute == ALL:
        asked = f"attribute={ALL}"
        del options["count"]
    if mode == "transfer":
        way = settings.way or options["way"]
        if way not in WAYS:
            raise ZooError(f"way={way} of mode=transfer is not known; choose one of {', '.join(WAYS)}.")
        options |= WAYS[way]
        asked += f" way={way}"
    for name in sorted({name for others in (*OPTIONS.values(), *WAYS.values()) for name in others}):
        given = getattr(settings, name)
        if given is not None and name not in options:
            shown = f"{given:g}" if isinstance(given, float) else given
            raise ZooError(f"{name}={shown} has no meaning for {asked}; its options are {', '.join(options)}.")
        if given is not None:
            options[name] = given
    if "count" in options and settings.image is not None:
        options["count"] = settings.count  # null: all files
    if mode == "attribute" and settings.attribute is None:
        raise ZooError(f"mode=attribute needs the name of one: give attribute=NAME, or attribute={ALL} for one image along all of them.")
    largest = math.isqrt(SHOWN) if options.get("way") in ("add", "swap") else SHOWN  # so many rows and so many columns
    if options.get("count") is not None and options["count"] > largest and not (mode == "samples" and settings.save_individual):
        more = "; more samples can only be written as files of their own: add save_individual=true" if mode == "samples" else "; lower it"
        raise ZooError(f"count={options['count']} is more than the {largest:,} that one picture shows{more}.")
    if options.get("strength") == 0:
        raise ZooError("strength=0 changes nothing; above 0 it adds the attribute, below 0 it removes it.")
    if options.get("prior") not in (None, *PRIORS):
        raise ZooError(f"prior={options['prior']} is not known; choose {', '.join(PRIORS)}, or leave it out for the model's own.")
    return mode, options
