"""From what was typed to typed settings, of any command."""

import hydra
import pytest

from zoo.config.check import check
from zoo.config.instantiate import conf_dir
from zoo.config.schema import BenchSettings, CompareSettings, EvaluateSettings, GenerateSettings, PrepareSettings, TrainSettings
from zoo.errors import ZooError

COMMANDS = {
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "generate": GenerateSettings,
    "compare": CompareSettings,
    "prepare": PrepareSettings,
    "bench": BenchSettings,
}


def composed(command, *overrides):
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra.compose(command, [*(["run=here"] if command in ("evaluate", "generate") else []), *overrides])


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_exactly_the_settings_of_its_configuration(command):
    config = composed(command)
    assert check(config, COMMANDS[command]).model_dump(exclude_unset=True).keys() == config.keys() - {"paths", "trusted"}


WRONG = {
    ("evaluate", "split=training"): "split=training is not known; use test, val or train.",
    ("evaluate", "samples=0"): "samples=0 must be a whole number of at least 1.",
    ("evaluate", "+features.wieghts=a"): "There is no setting 'features.wieghts'; did you mean 'features.weights'?",
    ("generate", "device=tpu"): "device=tpu is not known; use auto, cpu or cuda.",
    ("generate", "steps=1"): "steps=1 must be a whole number of at least 2.",
    ("generate", "strength=inf"): "strength=inf must be a number.",
    ("compare", "dashboard=mlflow"): "dashboard=mlflow is not known; use wandb, or null.",
    ("compare", "force=maybe"): "force=maybe must be true or false.",
    ("train", "trainer.accelerator=tpu"): "trainer.accelerator=tpu is not known to zoo.train; use auto, cpu, gpu or cuda.",
    ("train", "+trainer.devcies=2"): "There is no setting 'trainer.devcies'; did you mean 'trainer.devices'?",
    ("bench", "sizes=64"): "sizes=64 must be a list.",
}


@pytest.mark.parametrize(("command", "override"), WRONG)
def test_what_does_not_fit_is_one_sentence_with_key_and_value(command, override):
    with pytest.raises(ZooError) as error:
        check(composed(command, override), COMMANDS[command])
    assert str(error.value) == WRONG[command, override]


def test_names_of_digits_are_names():
    settings = check(composed("compare", "runs=[2026,a]", "out=7"), CompareSettings)
    assert (settings.runs, settings.out) == (["2026", "a"], "7")
