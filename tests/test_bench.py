"""The benchmark runs, and its numbers hang together. No timing is asserted: machines differ, and tests share theirs with others."""

import json
import sys

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from zoo.bench import bench, check, main
from zoo.benchmarks import loading, training
from zoo.benchmarks.figures import PeakMemory, process_memory
from zoo.benchmarks.loading import TorchvisionCelebA, write_celeba
from zoo.benchmarks.training import OneLayer, TakeTurns, random_batch, step, train_config
from zoo.engine.config import conf_dir
from zoo.errors import ZooError

TINY = ("images=512", "jpegs=40", "seconds=0.02", "batch_size=4", "sizes=[32]", "models=[ae,vae]")


def settings(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("bench", list(overrides))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """All sections with small batches, a small model and a row of metrics every 4 steps."""
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "BATCH_SIZE", 64)
        patch.setattr(training, "train_config", lambda *options: train_config(*options, "budget=3200", "model.backbone.width=16"))
        numbers = bench(settings(*TINY, f"out={out}"))
    assert torch.get_num_threads() == before
    assert json.loads(out.read_text()) == json.loads(json.dumps(numbers))
    return numbers


def test_loader_figures_hang_together(found):
    loader = found["loader"]
    assert all(figure["value"] >= figure["median"] > 0 for name, figure in loader.items() if name.endswith("per_second"))
    ratio = loader["mmap_float_images_per_second"]["value"] / loader["torchvision_images_per_second"]["value"]
    assert loader["mmap_float_over_torchvision"]["value"] == pytest.approx(ratio)
    assert loader["mmap_uint8_images_per_second"]["goal"] == 500_000
    for figure in loader.values():
        assert figure["met"] == (None if figure["goal"] is None else figure["value"] >= figure["goal"])


def test_memory_figures_hang_together(found):
    memory = found["memory"]
    assert memory["store_mib"]["value"] == pytest.approx(512 * 3 * 64 * 64 / 2**20)
    ratio = 100 * memory["private_mib"]["value"] / memory["store_mib"]["value"]
    assert memory["private_over_store"]["value"] == pytest.approx(ratio)


def test_overhead_figures_hang_together(found):
    overhead = {name: figure["value"] for name, figure in found["overhead"].items()}
    for name in ("one_layer", "vae"):
        assert min(overhead[f"{name}_{part}_ms_per_step"] for part in ("bare", "zoo", "reading")) > 0
    assert overhead["vae_added_percent"] == pytest.approx(100 * overhead["vae_added_ms_per_step"] / overhead["vae_bare_ms_per_step"])


def test_training_rows_hang_together(found):
    rows = found["training"]
    assert [(row["model"], row["image_size"], row["mode"]) for row in rows] == [("ae", 32, "eager"), ("vae", 32, "eager")]
    for row in rows:
        assert row["images_per_second"] == pytest.approx(1000 * row["batch_size"] / row["ms_per_step"])
        assert row["peak_memory_mib"] is None or row["peak_memory_mib"] > 1  # the weights alone are more


def test_a_model_that_cannot_be_built_is_a_note():
    rows = bench(settings(*TINY, "what=training", "models=[ae]", "sizes=[31]"))["training"]
    assert rows[0]["model"] == "ae"
    assert "31 pixels" in rows[0]["note"]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("what=[loeder]", "did you mean 'loader'"),
        ("models=[vea]", "did you mean 'vae'"),
        ("images=100", "at least 512"),
        ("seconds=0", "seconds=0"),
        ("sizes=64", "sizes="),
        ("out=/nowhere/bench.json", "cannot be written"),
    ],
)
def test_wrong_settings_are_refused(override, sentence):
    with pytest.raises(ZooError, match=sentence):
        check(settings(override))


def test_overhead_weighs_logging_steps_by_their_share():
    turns = TakeTurns(iter(()), iter(()), block=1, seconds=0, interval=4)
    turns.logs = [False, False, False, True] * 2
    assert turns.per_step([1, 1, 1, 5, 1, 1, 100, 5]) == (3 * 1 + 5) / 4
    turns = TakeTurns(iter(()), iter(()), block=4, seconds=0, interval=4)
    turns.logs = [True, True, True]
    assert turns.per_step([8, 8, 400]) == 2


def test_the_bare_step_trains():
    torch.manual_seed(0)
    model, batch = OneLayer((3, 8, 8)), random_batch(16, 8, torch.device("cpu"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
    losses = [step(model, optimizer, batch, mixed=False).item() for _ in range(20)]
    assert losses[-1] < losses[0] / 2


def test_torchvision_reads_the_exported_faces(tmp_path):
    write_celeba(tmp_path, 3)
    data = TorchvisionCelebA(tmp_path, "train")
    image, attributes = data[2]
    assert len(data) == 3
    assert image.size == (178, 218)
    assert set(np.unique(attributes)) <= {0, 1}


@pytest.mark.skipif(process_memory("VmHWM", "status") is None, reason="needs /proc")
def test_peak_memory_sees_what_is_freed_again():
    with PeakMemory(torch.device("cpu")) as peak:
        held = torch.ones(2**24)  # 64 MiB
        del held
    assert peak.bytes is None or 60 * 2**20 < peak.bytes < 100 * 2**20


def test_the_command_explains_itself_and_refuses_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["zoo.bench", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "what=[loader]" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["zoo.bench", "what=[loeder]"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.strip() == "zoo: what=loeder cannot be measured; did you mean 'loader'?"
