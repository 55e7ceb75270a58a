"""Jobs of a sweep: names, folders, settings, and what is refused before anything is written."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.sweeps.helpers import read, statuses
from zoo.config.overrides import quoted, unquoted
from zoo.runs.find import newest_sweep
from zoo.runs.status import state_of
from zoo.sweeps.jobs import Job, identity, overrides_to_start


def test_a_folder_named_on_the_command_line_is_gone_on_with_and_no_other_jobs_enter_it(jobs, zoo, tiny, tmp_path):
    assert zoo("train", "-m", *tiny, "seed=0,10", "hydra.sweep.dir=a b").code == 0
    again = zoo("train", "-m", *tiny, "seed=0,10", "hydra.sweep.dir='a b'")
    assert again.code == 0
    assert again.out.count("skipped") == 2
    other = zoo("train", "-m", *tiny, "trainer.gradient_clip_val=1", "seed=0,10", "hydra.sweep.dir='a b'")
    assert other.code == 2
    assert "00-seed-0 holds another run than seed=0; name another hydra.sweep.dir" in other.err
    config = tmp_path / "a b" / "01-seed-10" / "config.yaml"
    config.write_text(config.read_text().replace('"batch_size": 8', '"batch_size": 4'))  # as if that of an experiment had been changed
    changed = zoo("train", "-m", *tiny, "seed=0,10", "hydra.sweep.dir='a b'")
    assert changed.code == 2
    assert "01-seed-10 was begun with batch_size=4, not 8; name another hydra.sweep.dir" in changed.err
    assert not (tmp_path / "runs").exists()


def test_how_jobs_are_packed_and_how_long_a_search_goes_on_makes_no_other_sweep():
    packed = ["hydra/launcher=slurm", "+hydra.launcher.name=x", "hydra.sweep.dir=y", "hydra.sweeper.trials=9", "hydra.sweeper.jobs=2"]
    assert identity(["--multirun", *packed, "+model.x=1", "hydra.sweeper.seed=1"]) == ["+model.x=1", "hydra.sweeper.seed=1"]


def test_a_run_without_a_checkpoint_starts_anew_and_keeps_its_name_at_wandb(jobs, zoo, tiny, tmp_path):
    own = [o for o in tiny if o != "logger=none"]
    assert zoo("train", "-m", *own, "seed=2,10", "hydra.sweep.dir=here").code == 1
    failed = tmp_path / "here" / "00-seed-2"
    assert read(failed, "seen.json")["overrides"][len(own) + 1 :] == ["logger.wandb.group='here'"]
    (failed / "repaired").write_text("")
    (failed / "wandb" / "offline-run-1").mkdir(parents=True)
    assert zoo("train", "-m", *own, "seed=2,10", "hydra.sweep.dir=here").code == 0
    assert read(failed, "seen.json")["overrides"][len(own) + 1 :] == ["logger.wandb.group='here'", "logger.wandb.id='abc'"]
    assert not (failed / "wandb").exists()


def test_sweeps_go_where_runs_are_sent_and_are_gone_on_with_there(jobs, zoo, tiny, tmp_path, monkeypatch):
    assert zoo("train", "-m", *tiny, "seed=7,2", "paths.runs=elsewhere").code == 1
    (folder,) = (tmp_path / "elsewhere" / "sweeps").glob("*/*")
    assert "Going on with the sweep in elsewhere/" in zoo("train", "-m", *tiny, "seed=7,2", "paths.runs=elsewhere").out
    monkeypatch.setenv("ZOO_RUNS", "elsewhere")
    assert newest_sweep().resolve() == folder
    assert not (tmp_path / "runs").exists()


def test_jobs_are_resumed_with_the_classes_that_were_typed(jobs, zoo, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.config.instantiate._trusted", set())
    own = [o for o in tiny if not o.startswith("model.")]
    sweep = [
        "-m",
        *own,
        "model=custom",
        "model.name=vae",
        "model._target_=mine.Model",
        "trusted=[other]",
        "seed=1,10",
        "hydra.sweep.dir=here",
    ]
    assert zoo("train", *sweep).code == 1
    job = tmp_path / "here" / "00-seed-1"
    assert "trusted=[other]" in read(job, "seen.json")["overrides"]
    (job / "checkpoints" / "000000000032.ckpt").write_text("")
    (job / "repaired").write_text("")
    assert zoo("train", *sweep).code == 0
    resumed = read(job, "seen.json")["overrides"]
    assert resumed[0].startswith("resume=")
    assert "trusted=[other,mine.Model]" in resumed


def test_settings_that_only_the_swept_models_have(jobs, zoo, tiny, tmp_path):
    own = [o for o in tiny if not o.startswith("model.")]
    done = zoo("train", "-m", *own, "model=glow,fvae", "model.flow.depth=1", "hydra.sweep.dir=here")
    assert done.code == 0, done.err
    assert [*statuses(tmp_path / "here")] == ["00-model-glow", "01-model-fvae"]
    assert {"model=fvae", "model.flow.depth=1"} <= {*read(tmp_path / "here" / "01-model-fvae", "seen.json")["overrides"]}


def test_a_job_s_folder_can_be_typed_without_quotes(jobs, zoo, tiny, tmp_path):
    sweeping = ["data.cache='/tmp/a, b=c',/tmp/b", f"evaluation.metrics=[samples],[{','.join(['samples'] * 12)}]"]
    done = zoo("train", "-m", *tiny, "trainer.precision=32-true", *sweeping, "hydra.sweep.dir=here")
    assert done.code == 0, done.err
    names = [path.name for path in sorted((tmp_path / "here").glob("*-*"))]
    assert len(names) == 4
    assert names[0] == "00-cache-_tmp_a_b_c-metrics-_samples"
    assert max(map(len, names)) <= 80
    for name in names:
        assert OverridesParser.create().parse_override(f"run=here/{name}").value() == f"here/{name}"


@pytest.mark.parametrize("path", ["/a/00-vae", "/a b/c,d=e", "/it's/x", "\\a\\'b", "12", "runs/2026-11-20/10-00-00", "ä/ö", "a\\"])
def test_a_folder_reaches_hydra_as_it_is(path):
    override = OverridesParser.create().parse_override(f"hydra.run.dir={quoted(Path(path))}")
    assert override.value() == path
    assert unquoted(f"resume={quoted(path)}") == path


REFUSED = {
    "modle=3": ["no setting 'modle'", "did you mean 'model'"],
    "model.beat=1,2": ["no setting 'model.beat'", "did you mean 'model.beta'", "job", "beat=1"],
    "model=vae,vaee": ["no model 'vaee'", "did you mean 'vae'", "job model=vaee"],
    "model=ae,gan model.beta=2": ["no setting 'model.beta'", "job model=ae"],
    "optimizer.lr=1e-3,fast": ["optimizer.lr=fast", "number", "job lr=fast"],
    "seed=0,1,0": ["alike", "seed=0"],
    "seed=interval(0,1)": ["range", "hydra/sweeper=optuna"],
    "data=mnist,celeba": ["data.root=DIR", "job data=mnist"],
    "hydra/launcher=gpu": ["no hydra/launcher 'gpu'", "did you mean 'gpus'"],
    "hydra/launcher=gpus": ["machine has no GPU"],
    "hydra/launcher=cpus trainer.devices=1,2 trainer.accelerator=cpu": ["trainer.devices=2", "per_job=2", "job devices=2"],
    "hydra/launcher=cpus hydra.launcher.per_job=1000": ["per_job=1000", "whole number"],
    "hydra/launcher=cpus hydra.launcher.slots=1000": ["slots=1000"],
    "hydra/launcher=cpus hydra.launcher.slots=[0,0]": ["slots=[0, 0]"],
    "hydra/launcher=cpus hydra.launcher.slots=all": ["slots=all must be some of"],
    "hydra/launcher=cpus hydra.launcher.slots=1.5": ["slots=1.5 must be some of"],
    "hydra/launcher=cpus trainer.accelerator=gpu": ["trainer.accelerator=gpu"],
    "hydra/launcher=basic": ["one process", "hydra/launcher=local"],
    "trainer.num_nodes=2": ["trainer.num_nodes=2", "hydra/launcher=slurm"],
    "resume=latest": ["resume"],
    "--cfg": ["leave -m out"],
}  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="the cases are those of a machine without a GPU")
@pytest.mark.parametrize("arguments", REFUSED)
def test_refused_before_anything_is_written(jobs, zoo, tiny, tmp_path, arguments):
    own = [o for o in tiny if not o.startswith("model.")]
    if "data=" in arguments:
        own = [o for o in own if not o.startswith("data.root")]
    done = zoo("train", "-m", *own, *arguments.split())
    assert done.code == 2, (done.out, done.err)
    assert len(done.err.strip().splitlines()) == 1, done.err
    for part in REFUSED[arguments]:
        assert part in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("torn", ["data: [", "max_images:", "max_images: 64\nlogger: {id: 'ab", "a", ""])
def test_torn_settings_of_a_job_are_no_error(tmp_path, torn):
    (tmp_path / "config.yaml").write_text(torn)
    (tmp_path / "summary.json").write_text('{"images_seen": 64}')
    assert state_of(tmp_path) == "new"
    settings = SimpleNamespace(logger={"wandb": {"group": "all"}})
    job = Job("[1/1] seed=1", ["seed=1"], "seed=1", tmp_path, settings)
    assert overrides_to_start(job) == ["seed=1", "logger.wandb.group='all'"]
    assert not (tmp_path / "config.yaml").exists()


def test_a_model_that_takes_its_settings_from_an_earlier_run_is_gone_on_with(jobs, zoo, tiny, tmp_path):
    assert zoo("train", *tiny, "model=ae", "hydra.run.dir=ae").code == 0
    own = [*(o for o in tiny if not o.startswith(("model.", "max_images="))), "max_images=128", "model=two_stage", "pretrain.run=ae"]
    folder = tmp_path / "here" / "00-seed-0"
    trained = zoo("train", *own, "seed=0", f"hydra.run.dir={folder}")
    assert trained.code == 0, trained.err
    (folder / "job.json").write_text(json.dumps({"overrides": [*own, "seed=0"], "status": "finished"}))
    again = zoo("train", "-m", *own, "seed=0,10", "hydra.sweep.dir=here")
    assert again.code == 0, again.err
    assert "skipped" in again.out
