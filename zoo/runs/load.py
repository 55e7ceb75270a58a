"""From a checkpoint to a model, and to the data it was trained on."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from zoo.config.check import check
from zoo.config.instantiate import build, trust
from zoo.config.schema import TrainSettings
from zoo.data.module import DataModule
from zoo.errors import ZooError
from zoo.models.base import Autoencoder
from zoo.runs import checkpoint
from zoo.runs.build import build_data, build_model
from zoo.runs.find import find_run
from zoo.runs.layout import CHECKPOINTS
from zoo.runs.summary import total_spent


class Run(NamedTuple):
    """A trained run, opened."""

    model: Autoencoder  # on its device, in eval mode
    settings: TrainSettings  # as they were resolved when training began
    checkpoint: Path  # the file the weights come from
    command: str  # that trained it
    versions: dict[str, str]  # it was trained with
    spent: dict[str, Any]  # images_seen, train_hours and device_hours, over all stages of its training

    @property
    def folder(self) -> Path:
        """The run's folder; for a checkpoint that lies elsewhere, the folder it lies in."""
        parent = self.checkpoint.parent
        return parent.parent if parent.name == CHECKPOINTS else parent

    def as_pretraining(self, folder: Path) -> dict[str, Any]:
        """What a later stage, trained in `folder`, keeps on record of this one."""
        inside = self.checkpoint.is_relative_to(folder)
        path = self.checkpoint.relative_to(folder) if inside else self.checkpoint
        return {"checkpoint": str(path), "command": self.command, **self.spent}

    def data(self, root: str | None = None, cache: str | None = None, otherwise: str = "") -> DataModule:
        """The data it was trained on, opened; `root` names the folder they have moved to, `cache` another folder of packed stores.

        Raises ZooError where they are not; `otherwise` says what else can be done.
        """
        settings = self.settings.model_copy(deep=True)
        if root is not None:
            if "root" not in settings.data.source:
                raise ZooError(f"data_root={root} cannot be given: the data '{settings.data.name}' are made by the program.")
            settings.data.source["root"] = root
        settings.data.cache = cache or settings.data.cache
        try:
            data = build_data(settings)
            _ = data.store
        except ZooError as error:
            reason = str(error).rstrip(".").removesuffix("; set data.root=DIR")
            raise ZooError(f"The data of this run cannot be opened ({reason}); say where they lie with data_root=DIR{otherwise}.") from None
        return data


def open_run(name: str | Path, device: str = "cpu", option: str = "run") -> Run:
    """Opens a run's folder (its newest good checkpoint), a .ckpt file, or "latest". Raises ZooError; `option` is what names it there."""
    path = find_run("latest", option=option) if str(name) == "latest" else Path(str(name)).expanduser()
    if not path.exists():
        raise ZooError(f"{option}={name} does not exist; name a run's folder, a .ckpt file, or latest.")
    if path.is_dir():
        path, state = checkpoint.newest_good(path)
    else:
        state = checkpoint.load(path)
    about = state["zoo"]
    model = build_model(about["config"].get("model"))
    if not isinstance(model, Autoencoder):
        raise ZooError(f"The checkpoint {path} configures a {type(model).__name__}, which is not a model of the zoo.")
    settings = check(about["config"])
    fit_weights(model, state, path)
    model.load_state_dict(state["state_dict"])
    images_seen = state["global_step"] * settings.batch_size
    model.images_seen.fill_(images_seen)  # on the clock of its own stage
    model.images_counted = images_seen
    spent = total_spent(settings, images_seen, state["training_metrics"]["train_seconds"], about.get("pretrain", {}))
    return Run(model.to(device).eval(), settings, path, about.get("command", "unknown"), about["versions"], spent)


def load(run_or_checkpoint: str | Path, device: str = "cpu", trusted: Iterable[str] = ()) -> Autoencoder:
    """A trained model in eval mode, with averaged weights if averaging was on; `zoo.load`.

    Args:
        run_or_checkpoint: A run's folder (its newest good checkpoint is taken) or a .ckpt file, also of a plain Trainer.
        device: Where to put it.
        trusted: Packages of your own whose classes it may hold.

    Raises:
        ZooError: There is no checkpoint, or it is damaged, holds code, or does not fit its own configuration.
    """
    trust(trusted)
    path = Path(run_or_checkpoint)
    if not path.is_file():
        return open_run(path, device).model
    state = checkpoint.read(path)
    if "config" in state["zoo"]:
        return open_run(path, device).model
    model = build({"_target_": state["zoo"].get("model"), **state.get("hyper_parameters", {})})
    fit_weights(model, state, path)
    model.load_state_dict(state["state_dict"])
    model.images_counted = state["zoo"].get("images_seen", 0)
    return model.to(device).eval()


def fit_weights(model: Autoencoder, state: dict[str, Any], path: Path, key: str = "state_dict") -> None:
    """Raises ZooError unless the checkpoint's weights belong to this model: same names, same shapes."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    other = {name: tuple(value.shape) for name, value in state[key].items()}
    if own != other:
        name = next(name for name in sorted(own.keys() | other.keys()) if own.get(name) != other.get(name))
        raise ZooError(
            f"The checkpoint {path} belongs to another model than {type(model).__name__}: '{name}' is {other.get(name, 'missing')} there "
            f"and {own.get(name, 'missing')} here; name a run of the same model and settings."
        )
