"""Builds the packed store of a data set ahead of training, or writes the drawn faces out in CelebA's layout.

python -m zoo.prepare data=celeba data.root=DIR
python -m zoo.prepare data=faces export=DIR
"""

from pathlib import Path

from omegaconf import DictConfig

from zoo.config.app import run_command
from zoo.config.check import check
from zoo.config.schema import PrepareSettings
from zoo.data.faces.dataset import Faces, export_celeba
from zoo.data.module import cache_dir
from zoo.data.source import SPLITS
from zoo.data.store import prepare as prepare_store
from zoo.errors import ZooError
from zoo.runs.build import build_source


def main() -> None:
    """The command line's entry."""
    run_command(prepare, "prepare")


def prepare(config: DictConfig) -> None:
    """Builds or checks the store, or exports the faces."""
    settings = check(config, PrepareSettings)
    data, export = settings.data, settings.export
    source = build_source(data.source)
    if export is not None:
        if not isinstance(source, Faces):
            raise ZooError(f"export= writes the drawn faces, not '{data.name}'; use data=faces export=DIR.")
        export_celeba(source, Path(export))
        print(f"{export}: the faces in CelebA's layout; train on them with data=celeba data.root={export}")
        return
    store = prepare_store(source, cache_dir(data.cache), data.skip_bad)
    counts = ", ".join(f"{len(store.indices(split)):,} {split}" for split in SPLITS)
    channels, size = store.channels, store.image_size
    print(f"{store.path}: {len(store):,} images of {channels}×{size}×{size} ({counts}), {len(store.attribute_names)} attributes")


if __name__ == "__main__":
    main()
