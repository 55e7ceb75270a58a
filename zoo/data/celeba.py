"""`data=celeba`: CelebA, aligned and cropped (Liu, Luo, Wang and Tang, 2015, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html).

Unlike torchvision's reader this one joins attributes and partition to the images by *file name*, notices a partial extraction, reads the
zip in place (nothing is unpacked to disk) and lists bad files with reasons.

References use different crops (ACAI 146, VAE-GAN 148, two-stage 128, RAE 140, GLF 160, UDT 178), so numbers only compare at the same crop.
"""

import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from zoo.data.folder import fingerprint, natural, open_root
from zoo.data.images import ImageDecoder, decode_all
from zoo.data.source import SPLITS, Chunk, Listing, Source
from zoo.errors import ZooError
from zoo.files import sha256_of

EXPECTED = "img_align_celeba/ (or img_align_celeba.zip), list_attr_celeba.txt and list_eval_partition.txt"
RESTORE = "restore it from the original download"
MEMBER_LIMIT_BYTES = 2**26  # no photo is larger; a zip bomb is


class CelebA(Source):
    """CelebA's 202,599 faces of 178×218 pixels with 40 attributes and the official partition.

    root: holds what EXPECTED says, or a folder `celeba` that does (torchvision's layout). The official sub-folders Img, Anno and Eval, and
        Kaggle's .csv tables and doubled image folder are found too. The folder of images is preferred to the zip.
    image_size: pixels, height = width.
    crop: side of the centred square that is kept, in pixels; None keeps the largest (178).
    partial: use the images that are both there and in the attribute file; otherwise any difference between the two is an error.

    Images are sorted by name, whatever the order of the tables' rows.
    """

    name = "celeba"
    channels = 3
    attribute_names: tuple[str, ...] = ()  # known after `scan`: the header of the attribute file

    def __init__(self, root: str | Path | None = None, image_size: int = 64, crop: int | None = 148, partial: bool = False) -> None:
        self.root, self.image_size, self.partial = root, image_size, partial
        self.decoder = ImageDecoder(image_size, 3, crop)
        self._names: list[str] = []
        self._load: Any = None  # name -> bytes, known after `scan`

    def settings(self) -> dict[str, Any]:
        return {"source": self.name, "partial": self.partial} | self.decoder.settings()

    def fingerprint(self) -> str:
        images, *tables = self._locate()
        return fingerprint([*tables, *image_paths(images)])

    def scan(self) -> Listing:
        """Raises ZooError for missing, doubled or malformed rows, images without a row, rows without an image, and empty splits."""
        images, attribute_file, *others = self._locate()
        present, self._load = open_images(images)
        columns, rows = read_attributes(attribute_file, self.partial)
        names = join(present, rows, images, attribute_file, self.partial)
        splits = self._splits(names, *others)
        self._names, self.attribute_names = names, columns
        attributes = np.frombuffer(b"".join(rows[name] for name in names), np.uint8).reshape(len(names), len(columns))
        digests = {path.name: sha256_of(path) for path in (attribute_file, *others)}
        return Listing(names, splits, attributes, digests=digests)

    def read(self, start: int, stop: int) -> Chunk:
        if self._load is None:
            self.scan()
        return decode_all(self._load, self._names[start:stop], self.decoder)

    def _locate(self) -> list[Path]:
        """The images, the table of attributes, and what decides the splits."""
        root = open_root(self.root, self.name, EXPECTED)
        folder, twice, packed = "img_align_celeba", "img_align_celeba/img_align_celeba", "img_align_celeba.zip"
        images = [f"{prefix}{name}" for prefix in ("", "Img/") for name in (twice, folder, packed)]
        attributes = ["list_attr_celeba.txt", "Anno/list_attr_celeba.txt", "list_attr_celeba.csv"]
        partition = ["list_eval_partition.txt", "Eval/list_eval_partition.txt", "list_eval_partition.csv"]
        return [find(root, names, EXPECTED) for names in (images, attributes, partition)]

    def _splits(self, names: list[str], *tables: Path) -> np.ndarray:
        """(N,) uint8, positions in SPLITS."""
        return official_splits(names, tables[0])


def find(root: Path, names: list[str], expected: str) -> Path:
    """The first of the files or folders `names` in root or root/celeba that is there; an empty folder is not. Raises ZooError."""
    for path in (base / name for base in (root, root / "celeba") for name in names):
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            return path
    raise ZooError(f"The folder {root} has no {Path(names[0]).name}, or it is empty: {expected} are expected in it; set data.root=DIR.")


def image_paths(path: Path) -> list[str]:
    """The .jpg files in a folder, sorted, hidden ones left out; or the zip itself."""
    if path.is_file():
        return [str(path)]
    return sorted(f"{path}/{name}" for name in os.listdir(path) if name.lower().endswith(".jpg") and not name.startswith("."))


def open_images(path: Path) -> tuple[list[str], Callable[[str], bytes]]:
    """The names of the .jpg files in a folder or zip, and a thread-safe function that gives the bytes of one. Raises ZooError."""
    if path.is_dir():
        names = [os.path.basename(file) for file in image_paths(path)]

        def load(name: str) -> bytes:
            return (path / name).read_bytes()
    else:
        archive, members, lock = *_open_zip(path), threading.Lock()
        names = list(members)

        def load(name: str) -> bytes:
            if members[name].file_size > MEMBER_LIMIT_BYTES:
                raise ValueError(f"unpacks to {members[name].file_size} bytes")
            with lock:
                return archive.read(members[name])

    if not names:
        raise ZooError(f"{path} holds no .jpg files: {RESTORE}, or set data.root=DIR.")
    return names, load


def _open_zip(path: Path) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    """A zip, and its .jpg files in the folder img_align_celeba. Only base names are kept, as keys: no member's path reaches the disk."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise ZooError(f"{path} is not a complete zip file ({error}): download it again.") from error
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        inside = PurePosixPath(member.filename)
        if inside.parent.name == path.stem and inside.suffix.lower() == ".jpg" and not inside.name.startswith("."):
            if inside.name in members:
                raise ZooError(f"{path} holds {inside.name} twice: download it again.")
            members[inside.name] = member
    return archive, members


def table_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The non-empty lines of a text table as (line number from 1, fields); fields are cut at commas in .csv files, else at blanks."""
    separator = "," if path.suffix == ".csv" else None
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, [field.strip() for field in line.split(separator)]


def malformed(path: Path, number: int, problem: str) -> ZooError:
    """The one sentence for a bad line of a table."""
    return ZooError(f"{path}, line {number}: {problem}; correct the line, or {RESTORE}.")


def read_attributes(path: Path, partial: bool = False) -> tuple[tuple[str, ...], dict[str, bytes]]:
    """Reads CelebA's attribute table: number of rows, names of columns, then per file its name and -1 or 1 for each column.

    Returns the names of the A columns, and for each file A bytes in {0, 1}.

    Kaggle's .csv has no number, and `image_id` before the names. Raises ZooError for a doubled or malformed row or column, and where the
    number of rows is not the announced one (fewer are allowed if `partial`).
    """
    lines = table_rows(path)
    announced = None
    number, columns = next(lines, (1, []))
    if path.suffix == ".csv":
        columns = columns[1:]
    else:
        if len(columns) != 1 or not columns[0].isdecimal():
            raise malformed(path, number, f"the number of images should stand here, not {' '.join(columns)[:40]!r}")
        announced = int(columns[0])
        number, columns = next(lines, (2, []))
    if not columns or len(set(columns)) < len(columns):
        raise malformed(path, number, "the names of the attributes should stand here, each once")

    bits = {"1": 1, "-1": 0}
    rows: dict[str, bytes] = {}
    for number, (name, *fields) in lines:
        if len(fields) != len(columns):
            raise malformed(path, number, f"{name} has {len(fields)} values for {len(columns)} attributes")
        if name in rows:
            raise malformed(path, number, f"{name} has a second row")
        try:
            rows[name] = bytes([bits[field] for field in fields])
        except KeyError as error:
            raise malformed(path, number, f"{name} has the value {error.args[0]!r}, but only -1 and 1 are possible") from None
    if announced is not None and (len(rows) > announced or (len(rows) < announced and not partial)):
        wrong = f"{path}, line 1: {announced} rows are announced, but {len(rows)} follow"
        raise ZooError(f"{wrong}; {RESTORE}" + (", or pass data.partial=true to use those." if len(rows) < announced else "."))
    return tuple(columns), rows


def read_partition(path: Path) -> dict[str, int]:
    """File name -> position in SPLITS (0 train, 1 val, 2 test). Raises ZooError for a doubled or malformed row."""
    splits: dict[str, int] = {}
    for number, fields in table_rows(path):
        if number == 1 and path.suffix == ".csv":
            continue
        if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
            raise malformed(path, number, f"a file's name and 0, 1 or 2 should stand here, not {' '.join(fields)[:40]!r}")
        if fields[0] in splits:
            raise malformed(path, number, f"{fields[0]} has a second row")
        splits[fields[0]] = int(fields[1])
    return splits


def join(present: list[str], rows: dict[str, bytes], images: Path, table: Path, partial: bool) -> list[str]:
    """Names of the images to use, sorted: those in both. Raises ZooError where the two differ, unless `partial`, or nothing is common."""
    absent, unlisted = rows.keys() - set(present), set(present) - rows.keys()
    if absent and not partial:
        what = f"{len(absent)} of the {len(rows)} images listed in {table.name} are not in {images} ({some(absent)})"
        raise ZooError(f"{what}: complete the folder, or pass data.partial=true to use the images that are there.")
    if unlisted and not partial:
        what = f"{len(unlisted)} images in {images} have no row in {table} ({some(unlisted)})"
        raise ZooError(f"{what}: {RESTORE}, or pass data.partial=true to use the images that have one.")
    common = sorted(rows.keys() & set(present), key=natural)
    if not common:
        raise ZooError(f"No image in {images} has a row in {table}: they belong to different data sets; set data.root=DIR.")
    return common


def official_splits(names: list[str], path: Path) -> np.ndarray:
    """(N,) uint8, positions in SPLITS. Raises ZooError where a name has no row in the partition, or a split would be empty."""
    partition = read_partition(path)
    missing = {name for name in names if name not in partition}
    if missing:
        raise ZooError(f"{path} has no row for {len(missing)} images ({some(missing)}): add the rows, or {RESTORE}.")
    splits = np.array([partition[name] for name in names], np.uint8)
    empty = [split for k, split in enumerate(SPLITS) if k not in splits]
    if empty:
        raise ZooError(f"None of the {len(names)} images is in the split {' or '.join(empty)}: add such images, or assign some in {path}.")
    return splits


def some(names: set[str]) -> str:
    """The first few names, for a sentence."""
    first = sorted(names, key=natural)[:3]
    return ", ".join(first) + (", …" if len(names) > 3 else "")
