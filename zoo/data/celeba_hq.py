"""`data=celeba_hq`: CelebA-HQ in the layout of CelebAMask-HQ (Karras et al., 2018; Lee et al., 2020, https://github.com/switchablenorms/CelebAMask-HQ).

The whole square is used, as f-VAE does at 128×128; masks are not read.
"""

from pathlib import Path

import numpy as np

from zoo.data.celeba import CelebA, find, malformed, official_splits, some, table_rows
from zoo.data.folder import open_root, split_by_name
from zoo.errors import ZooError

IMAGES, ATTRIBUTES, MAPPING = "CelebA-HQ-img", "CelebAMask-HQ-attribute-anno.txt", "CelebA-HQ-to-CelebA-mapping.txt"
PARTITION = "list_eval_partition.txt"
EXPECTED = f"{IMAGES}/ and {ATTRIBUTES}"


class CelebAHQ(CelebA):
    """CelebA-HQ's 30,000 faces of 1024×1024 pixels with CelebA's 40 attributes.

    root: holds what EXPECTED says, or a folder `CelebAMask-HQ` that does. Where CelebA-HQ-to-CelebA-mapping.txt and CelebA's
        list_eval_partition.txt are there too, each image is in its original's split; otherwise 90 % / 5 % / 5 %, fixed by name.
    image_size, partial: as in CelebA.
    """

    name = "celeba_hq"

    def __init__(self, root: str | Path | None = None, image_size: int = 128, partial: bool = False) -> None:
        super().__init__(root, image_size, None, partial)

    def _locate(self) -> list[Path]:
        """Images, attributes and, where both are there, mapping and partition."""
        root = open_root(self.root, self.name, EXPECTED)
        root = root / "CelebAMask-HQ" if (root / "CelebAMask-HQ").is_dir() else root
        official = [root / MAPPING, root / PARTITION]
        found = [find(root, [IMAGES], EXPECTED), find(root, [ATTRIBUTES], EXPECTED)]
        return found + official if all(path.is_file() for path in official) else found

    def _splits(self, names: list[str], *tables: Path) -> np.ndarray:
        part = max(1, len(names) // 20)
        return mapped_splits(names, *tables) if tables else split_by_name(names, part, part)


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
    return official_splits([originals[name] for name in names], partition)
