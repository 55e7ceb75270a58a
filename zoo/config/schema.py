"""Typed settings of each command: names, ranges and units, written once. No torch here.

What stands in a node beside the fields below belongs to the class that it configures (`_target_`), and is checked by its constructor.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
# Of a folder or a file, or a class; digits alone are a number for Hydra.
Name = Annotated[str, BeforeValidator(lambda given: str(given) if type(given) in (int, float) else given)]
Device = Literal["auto", "cpu", "cuda"]
Split = Literal["test", "val", "train"]


class Node(BaseModel):
    """Settings that are all named here."""

    model_config = ConfigDict(strict=True, extra="forbid")


class OpenNode(BaseModel):
    """Settings that may stand beside others."""

    model_config = ConfigDict(strict=True, extra="allow")


class OptimizerSettings(OpenNode):
    """A class of torch.optim and its arguments."""

    lr: Annotated[float, Field(ge=0)]


class SchedulerSettings(OpenNode):
    """A learning-rate schedule."""

    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of max_images


# Arguments of the Trainer that zoo.train decides itself: the one value that each may have beside null, and what to do instead.
DECIDED: dict[str, tuple[Any, str]] = {
    "default_root_dir": (None, "the run's folder is hydra.run.dir"),
    "enable_checkpointing": (True, "a run without checkpoints could not be evaluated; write fewer by checkpoint_every_images"),
    "overfit_batches": (0, "debug=overfit trains on 16 images over and over"),
    "limit_test_batches": (None, "training does not look at the test split; python -m zoo.evaluate does, with samples="),
    "limit_predict_batches": (None, "training does not predict; python -m zoo.generate does"),
    "inference_mode": (False, "validation fits priors, and inference tensors cannot be trained on"),
    "use_distributed_sampler": (False, "the zoo's loader gives each rank its share of every batch"),
    "reload_dataloaders_every_n_epochs": (0, "the zoo's loader is one for all epochs, so that a stopped run goes on exactly"),
    "barebones": (False, "it would leave out validation, checkpoints and metrics"),
    "plugins": (None, "the zoo's own write safe checkpoints; with others, train with a Trainer of your own (see the README)"),
    "model_registry": (None, "upload checkpoints after the training"),
}
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")  # weights are float32: losses and log-determinants need it
SHORT = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}  # as Lightning reads them
Count = Positive | None
Share = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)] | None  # batches, or a part of them


class TrainerSettings(Node):
    """The arguments of Lightning's Trainer. `auto` stands for what the machine has until `zoo.training.resolve` has run."""

    accelerator: str = "auto"
    devices: Any = "auto"  # auto, or processes on each machine
    num_nodes: Positive = 1
    strategy: str = "auto"
    precision: Annotated[str, BeforeValidator(lambda given: SHORT.get(str(given), str(given)))] = "auto"
    sync_batchnorm: bool | None = None
    max_epochs: Count = None
    max_steps: int = -1
    max_time: str | None = None
    min_epochs: Count = None
    min_steps: Count = None
    limit_train_batches: Positive | Annotated[float, Field(gt=0, le=1)] | None = None
    val_check_interval: Positive | Annotated[float, Field(gt=0, le=1)] | None = None
    check_val_every_n_epoch: Count = None
    limit_val_batches: Share = None
    num_sanity_val_steps: Annotated[int, Field(ge=-1)] = 0
    accumulate_grad_batches: Positive = 1  # micro-batches of a step on each device
    gradient_clip_val: Annotated[float, Field(gt=0)] | None = None  # of each parameter group
    gradient_clip_algorithm: Literal["norm", "value"] | None = None
    deterministic: bool | Literal["warn"] = False
    benchmark: bool | None = None
    detect_anomaly: bool = False
    log_every_n_steps: Count = None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = None
    profiler: Literal["simple", "advanced", "pytorch"] | None = None
    enable_autolog_hparams: bool = True
    fast_dev_run: bool | Natural = False  # batches
    default_root_dir: Any = None
    enable_checkpointing: Any = None
    overfit_batches: Any = 0.0
    limit_test_batches: Any = None
    limit_predict_batches: Any = None
    inference_mode: Any = False
    use_distributed_sampler: Any = False
    reload_dataloaders_every_n_epochs: Any = 0
    barebones: Any = False
    plugins: Any = None
    model_registry: Any = None

    @model_validator(mode="after")
    def _can_be_honoured(self) -> "TrainerSettings":
        for name, (value, reason) in DECIDED.items():
            if (given := getattr(self, name)) is not None and given != value:
                raise ValueError(f"trainer.{name}={given} cannot be set in zoo.train: {reason}.")
        if self.accelerator == "mps":
            raise ValueError("trainer.accelerator=mps is not supported: sums of validation are float64, which MPS does not have; use cpu.")
        for name, choices in (("accelerator", ("auto", "cpu", "gpu", "cuda")), ("strategy", STRATEGIES), ("precision", PRECISIONS)):
            if (given := getattr(self, name)) not in choices:
                raise ValueError(f"trainer.{name}={given} is not known to zoo.train; use {', '.join(choices[:-1])} or {choices[-1]}.")
        if self.max_steps < 1 and self.max_steps != -1:
            raise ValueError(f"trainer.max_steps={self.max_steps} must be at least 1, or -1 for no limit.")
        if self.max_time is not None and not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", self.max_time):
            raise ValueError(f"trainer.max_time={self.max_time} must be DD:HH:MM:SS (days, hours, minutes, seconds), as 00:01:30:00.")
        pieces = self.accumulate_grad_batches
        for name in ("limit_train_batches", "val_check_interval") if pieces > 1 else ():
            given = getattr(self, name)
            if given is not None and (given % pieces if type(given) is int else given < 1):
                raise ValueError(
                    f"trainer.{name}={given} would cut an optimizer step of {pieces} accumulated batches; make it a multiple of {pieces}."
                )
        return self

    @property
    def world_size(self) -> int:
        """Processes over all machines; of resolved settings."""
        return self.devices * self.num_nodes


class DataSettings(OpenNode):
    """A data set, and how it is read."""

    name: str
    image_size: int
    channels: int
    source: dict[str, Any]
    cache: str | None  # folder of the packed stores
    storage: str  # device, mmap or auto
    flip: bool  # mirror half of the training images
    skip_bad: bool
    limit: Positive | None  # images of each split
    domain: str | int | None  # an attribute


class EvaluationSettings(Node):
    """The evaluation of the validation split after the last step."""

    samples: Natural  # images of every comparison; 0 = no evaluation
    metrics: Any  # groups and metrics; null = all that apply


class PretrainSettings(OpenNode):
    """What is trained first: nothing, a given run, or `model`."""

    run: str | int | None = None
    share: Any = None  # of max_images, for a stage that is trained here
    model: dict[str, Any] | None = None


class TrainSettings(Node):
    """All settings of a run. `zoo.config.check` makes them from what was typed, `zoo.training.resolve` replaces `auto` and `null`."""

    seed: Natural
    batch_size: Positive  # images of an optimizer step, over all devices and micro-batches
    max_images: Positive  # images, over all stages
    compile: bool
    channels_last: bool  # memory layout of convolutions
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None  # decay of averaged weights
    val_every_images: Positive | None  # images
    checkpoint_every_images: Positive | None  # images
    probe_every_images: Positive | None  # images
    log_every_images: Positive | None  # images
    keep_last_k: Positive
    evaluation: EvaluationSettings
    resume: str | int | None = None
    verbose: bool = False
    pretrain: PretrainSettings
    model: dict[str, Any]
    data: DataSettings
    logger: dict[str, Any] = {}  # {name: class and arguments}, beside metrics.csv
    callbacks: dict[str, Any] = {}  # {name: class and arguments}, beside those that every run has
    optimizer: OptimizerSettings
    scheduler: SchedulerSettings
    trainer: TrainerSettings

    @model_validator(mode="after")
    def _parts_fit(self) -> "TrainSettings":
        latent_dim = self.model.get("latent_dim", 1)  # a flow's latent has the image's size
        if type(latent_dim) is not int or latent_dim < 1:
            raise ValueError(f"model.latent_dim={latent_dim} must be a whole number of at least 1.")
        if self.compile and (self.model.get("flow") or {}).get("memory") == "reversible":
            raise ValueError("compile=true cannot follow the backward pass of model.flow.memory=reversible; set it to checkpoint or plain.")
        return self

    def plain(self) -> dict[str, Any]:
        """As nested dicts and lists, as config.yaml and checkpoints hold them."""
        return self.model_dump(exclude_unset=True)


class ResolvedSettings(TrainSettings):
    """Settings as they hold on this machine: no `auto`, no `null` that stands for something else."""

    val_every_images: Positive
    checkpoint_every_images: Positive
    log_every_images: Positive

    @property
    def micro_batches(self) -> int:
        """Parts of a batch over all devices and accumulation."""
        return self.trainer.world_size * self.trainer.accumulate_grad_batches


class FeaturesSettings(Node):
    """The network whose features are compared."""

    name: str  # classifier or inception
    weights: Name | None  # file of an Inception network


class RunSettings(Node):
    """Settings of the commands that open a trained run."""

    run: Name  # a run's folder, a .ckpt file, or latest
    seed: Natural  # of all draws
    out: Name | None  # folder
    device: Device
    data_root: Name | None  # where the data lie, if they have moved
    cache: Name | None  # folder of the packed stores


class EvaluateSettings(RunSettings):
    """python -m zoo.evaluate."""

    split: Split
    samples: Positive  # images of every comparison
    metrics: Any  # groups and metrics; null = all that apply
    priors: Any
    features: FeaturesSettings


class GenerateSettings(RunSettings):
    """python -m zoo.generate. What a mode or way does not take must be null."""

    mode: str | None
    count: Positive | None  # images, pairs or rows
    steps: Annotated[int, Field(ge=2)] | None  # images from one end to the other
    prior: str | None
    attribute: Name | None  # classes may be digits
    strength: Annotated[float, Field(allow_inf_nan=False)] | None
    way: str | None
    image: Any  # a file, a list of files, or a folder
    guide: Any
    save_individual: bool
    size: Positive | None  # pixels of each image in the picture


class CompareSettings(Node):
    """python -m zoo.compare."""

    runs: list[Name] | Name | None
    out: Name | None  # folder
    split: Literal["test", "val"] | None
    baseline: Literal["zoo"] | None
    sort: str | None
    force: bool
    report: bool
    dashboard: Literal["wandb"] | None


class PrepareSettings(Node):
    """python -m zoo.prepare."""

    data: DataSettings
    export: Name | None  # a new folder


class BenchSettings(Node):
    """python -m zoo.bench."""

    sections: list[str] | str
    models: list[str] | str | None
    sizes: list[Positive]  # pixels
    batch_size: Positive
    compile: bool
    seconds: Annotated[float, Field(gt=0)]  # for each measurement, about
    threads: Positive | None
    images: Positive
    jpegs: Positive
    out: Name | None  # file
