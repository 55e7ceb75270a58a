"""`data=celeba_hq`: CelebA-HQ in the layout of CelebAMask-HQ (Karras et al., 2018; Lee et al., 2020, https://github.com/switchablenorms/CelebAMask-HQ).

The whole square is used, as f-VAE does at 128×128; masks are not read.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.celeba import (
    find,
    image_paths,
    join,
    malformed,
    official_splits,
    open_images,
    read_attributes,
    read_partition,
    some,
    table_rows,
)
from zoo.data.folder import fingerprint, open_root, split_by_name
from zoo.data.images import ImageDecoder, decode_all
from zoo.data.source import Chunk, Listing, Source
from zoo.errors import ZooError
from zoo.files import sha256_of

IMAGES, ATTRIBUTES, MAPPING = "CelebA-HQ-img", "CelebAMask-HQ-attribute-anno.txt", "CelebA-HQ-to-CelebA-mapping.txt"
PARTITION = "list_eval_partition.txt"
EXPECTED = f"{IMAGES}/ and {ATTRIBUTES}"


class CelebAHQ(Source):
    """CelebA-HQ's 30,000 faces of 1024×1024 pixels with CelebA's 40 attributes.

    root: holds what EXPECTED says, or a folder `CelebAMask-HQ` that does. Where CelebA-HQ-to-CelebA-mapping.txt and CelebA's
        list_eval_partition.txt are there too, each image is in its original's split; otherwise 90 % / 5 % / 5 %, fixed by name.
    image_size: pixels, height = width.
    partial: use the images that are both there and in the attribute file; otherwise any difference between the two is an error.
    """

    name = "celeba_hq"
    channels = 3
    attribute_names: tuple[str, ...] = ()  # known after `scan`: the header of the attribute file

    def __init__(self, root: str | Path | None = None, image_size: int = 128, partial: bool = False) -> None:
        self.root, self.image_size, self.partial = root, image_size, partial
        self.recipe = ImageDecoder(image_size)
        self._names: list[str] = []
        self._load: Callable[[str], bytes] | None = None

    def settings(self) -> dict[str, Any]:
        return {"source": self.name, "partial": self.partial} | self.recipe.settings()

    def fingerprint(self) -> str:
        images, *tables = self._locate()
        return fingerprint([*tables, *image_paths(images)])

    def scan(self) -> Listing:
        """Raises ZooError as `CelebA.scan` does, and for images without a row in the mapping."""
        images, *tables = self._locate()
        present, self._load = open_images(images)
        table = read_attributes(tables[0], self.partial)
        names = join(present, table.rows, images, tables[0], self.partial)
        part = max(1, len(names) // 20)
        splits = mapped_splits(names, tables[1], tables[2]) if len(tables) == 3 else split_by_name(names, part, part)
        self._names, self.attribute_names = names, table.columns
        return Listing(names, splits, table.select(names), digests={path.name: sha256_of(path) for path in tables})

    def read(self, start: int, stop: int) -> Chunk:
        if self._load is None:
            self.scan()
        assert self._load is not None
        return decode_all(self._load, self._names[start:stop], self.recipe)

    def _locate(self) -> list[Path]:
        """Images, attributes and, where both are there, mapping and partition."""
        root = open_root(self.root, self.name, EXPECTED)
        root = root / "CelebAMask-HQ" if (root / "CelebAMask-HQ").is_dir() else root
        official = [root / MAPPING, root / PARTITION]
        found = [find(root, [IMAGES], EXPECTED), find(root, [ATTRIBUTES], EXPECTED)]
        return found + official if all(path.is_file() for path in official) else found


def mapped_splits(names: list[str], mapping: Path, partition: Path) -> np.ndarray:
    """(N,) uint8, the official split of the CelebA image each CelebA-HQ image was made from. Raises ZooError for bad or missing rows."""
    originals: dict[str, str] = {}
    for number, fields in table_rows(mapping):  # idx, orig_idx, orig_file
        if number == 1 and not fields[0].isdecimal():
            continue
        if len(fields) != 3 or not fields[0].isdecimal():
            raise malformed(mapping, number, f"two numbers and a file's name should stand here, not {' '.join(fields)[:40]!r}")
        if f"{fields[0]}.jpg" in originals:
            raise malformed(mapping, number, f"image {fields[0]} has a second row")
        originals[f"{fields[0]}.jpg"] = fields[2]
    missing = {name for name in names if name not in originals}
    if missing:
        raise ZooError(f"{mapping} has no row for {len(missing)} images ({some(missing)}): restore it, or delete it to split by name.")
    return official_splits([originals[name] for name in names], read_partition(partition), partition)
