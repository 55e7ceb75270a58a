"""The benchmark runs, and its numbers hang together. No timing is asserted: machines differ, and tests share theirs with others."""

import importlib.util
import json
import sys

import pytest
import torch
from hydra import compose, initialize_config_dir

from zoo.bench import bench, main, selected
from zoo.benchmarks import flow_steps, games, steps
from zoo.benchmarks.games import GAMES, optimizers_of, recomputing_step
from zoo.benchmarks.measure import peak_memory, process_memory
from zoo.benchmarks.steps import OneLayer, TakeTurns, random_batch, ready, step, train_settings
from zoo.config.check import check
from zoo.config.instantiate import conf_dir
from zoo.config.schema import BenchSettings
from zoo.errors import ZooError

MODELS = ["ae", "vae", *GAMES]
TINY = ("images=512", "jpegs=40", "seconds=0.02", "batch_size=4", "sizes=[32]", f"models={MODELS}")


def settings(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("bench", list(overrides))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """All sections with small batches, a small model and a row of metrics every 4 steps."""
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo.bench.BATCH_SIZE", 64)
        patch.setattr(games, "BATCH_SIZE", 4)
        patch.setattr(flow_steps, "MEMORY", flow_steps.Size((3, 16, 16), 1, 4, 16, 4))
        patch.setattr(flow_steps, "SPEED", flow_steps.Size((3, 16, 16), 2, 2, 8, 4))
        patch.setattr(steps, "train_settings", lambda *options: train_settings(*options, "max_images=3200", "model.backbone.width=16"))
        patch.setattr(games, "train_settings", lambda *options: train_settings(*options, "data.image_size=32", "model.backbone.width=16"))
        numbers = bench(settings(*TINY, f"out={out}"))
    assert torch.get_num_threads() == before
    assert json.loads(out.read_text()) == json.loads(json.dumps(numbers))
    return numbers


def test_loader_figures_hang_together(found):
    loader = found["loader"]
    assert all(result["value"] >= result["median"] > 0 for name, result in loader.items() if name.endswith("per_second"))
    ratio = loader["mmap_float_images_per_second"]["value"] / loader["torchvision_images_per_second"]["value"]
    assert loader["mmap_float_over_torchvision"]["value"] == pytest.approx(ratio)
    assert loader["mmap_uint8_images_per_second"]["goal"] == 500_000
    for result in loader.values():
        assert result["met"] == (None if result["goal"] is None else result["value"] >= result["goal"])


def test_memory_figures_hang_together(found):
    memory = found["memory"]
    assert memory["store_mib"]["value"] == pytest.approx(512 * 3 * 64 * 64 / 2**20)
    ratio = 100 * memory["private_mib"]["value"] / memory["store_mib"]["value"]
    assert memory["private_over_store"]["value"] == pytest.approx(ratio)


def test_overhead_figures_hang_together(found):
    overhead = {name: result["value"] for name, result in found["overhead"].items()}
    for name in ("one_layer", "vae"):
        assert min(overhead[f"{name}_{part}_ms_per_step"] for part in ("bare", "zoo", "reading")) > 0
    assert overhead["vae_added_percent"] == pytest.approx(100 * overhead["vae_added_ms_per_step"] / overhead["vae_bare_ms_per_step"])


def test_games_figures_hang_together(found):
    results = found["games"]
    assert set(results) == {
        f"{name}_{part}" for name in GAMES for part in ("one_loss_ms_per_step", "recomputing_ms_per_step", "step_ratio")
    }
    for name in GAMES:
        ratio = results[f"{name}_step_ratio"]
        assert (ratio["goal"], ratio["met"]) == (1.1, ratio["value"] <= 1.1)
        assert min(results[f"{name}_{way}_ms_per_step"]["value"] for way in ("one_loss", "recomputing")) > 0


def small_game(name):
    """A model with its default settings, but for its size, in float64, and a batch for it."""
    torch.manual_seed(0)
    device = torch.device("cpu")
    model = ready(train_settings(f"model={name}", "data.image_size=32", "model.backbone.width=16"), device).double()
    if name == "udt":
        model.kl_weight = 0.01  # else its code has no noise
    batch = random_batch(4, 32, device)
    return model, batch._replace(image=batch.image.double())


@pytest.mark.parametrize("name", GAMES)
def test_objectives_of_the_groups_have_the_gradients_of_the_one_loss(name):
    """Otherwise the benchmark would compare different things."""
    model, batch = small_game(name)
    model.set_batch_rng((1, 2), 0, 4, 4)
    model.losses(batch)["loss"].backward()
    model.set_batch_rng((1, 2), 0, 4, 4)
    noise = GAMES[name].noise(model, 4)
    assert GAMES[name].objectives.keys() == model.param_groups().keys()
    for group_name, objective in GAMES[name].objectives.items():
        parameters = model.param_groups()[group_name]
        for gradient, parameter in zip(torch.autograd.grad(objective(model, batch, noise), parameters), parameters, strict=True):
            assert parameter.grad.abs().max() > 0
            torch.testing.assert_close(gradient, parameter.grad, rtol=0, atol=1e-11 * parameter.grad.abs().max().item())


@pytest.mark.parametrize("name", GAMES)
def test_recomputing_steps_each_group_by_its_own_objective(name):
    """The first group moves as by the one loss, with its own learning rate; those after it move too, but answer to moved groups."""
    (model, batch), (other, _) = small_game(name), small_game(name)
    start = {group_name: [p.detach().clone() for p in parameters] for group_name, parameters in model.param_groups().items()}
    model.set_batch_rng((1, 2), 0, 4, 4)
    step(model, model.build_optimizer(), batch, mixed=False)
    other.set_batch_rng((1, 2), 0, 4, 4)
    recomputing_step(other, optimizers_of(other), GAMES[name], batch, mixed=False)
    for turn, group_name in enumerate(GAMES[name].objectives):
        for ours, theirs, before in zip(model.param_groups()[group_name], other.param_groups()[group_name], start[group_name], strict=True):
            assert not torch.equal(theirs, before)
            if turn == 0:
                torch.testing.assert_close(theirs - before, ours - before, rtol=1e-6, atol=1e-9)


def test_flow_figures_hang_together(found):
    results = found["flows"]
    for mode, share in (("checkpoint", 0.3), ("reversible", 0.2)):
        assert 0 < results[f"{mode}_saved_ratio"]["value"] < share
        assert results[f"{mode}_time_ratio"]["value"] > 0
    if importlib.util.find_spec("normflows") is not None:
        assert results["log_likelihood_difference"]["met"]
        assert results["eager_ratio"]["goal"] == 0.9


def test_saved_bytes_count_each_storage_once_and_no_parameters():
    layer, x = torch.nn.Linear(3, 5), torch.randn(7, 3)
    assert flow_steps.saved_bytes(lambda: layer(x).exp().sum(), layer) == 4 * (7 * 3 + 7 * 5)  # x for the weight, exp for itself
    assert flow_steps.saved_bytes(lambda: (layer(x).exp() * x.T[:1].T).sum(), layer) == 4 * (7 * 3 + 7 * 5)  # a view of x as well


def test_normflows_gives_the_likelihood_of_our_weights():
    """Otherwise the benchmark would compare different things. Gradients as well, of the parameters that are the same numbers."""
    pytest.importorskip("normflows", reason="normflows is an optional peer, in the extra 'bench'")
    flow, x = flow_steps.ready(flow_steps.Size((3, 8, 8), 2, 3, 8, 5), torch.device("cpu"))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if not name.startswith("splits"):
                parameter += 0.05 * torch.randn_like(parameter)
    flow, x = flow.double(), x.double()
    peer = flow_steps.as_normflows(flow)
    found, expected = flow_steps.log_likelihood(flow, x), peer.log_prob(x, None)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    found.sum().backward()
    expected.sum().backward()
    step, (coupling, mixing, _) = flow.levels[0].steps[0], peer.flows[1][-2].flows
    for ours, theirs in zip(step.coupling.net[:4].parameters(), coupling.flows[1].param_map.net[:4].parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(step.mixing.lu.grad.diagonal(), mixing.log_S.grad, rtol=1e-9, atol=1e-9)


def test_training_rows_hang_together(found):
    rows = found["training"]
    assert [(row["model"], row["image_size"], row["mode"]) for row in rows] == [(name, 32, "eager") for name in MODELS]
    for row in rows:
        assert row["images_per_second"] == pytest.approx(1000 * row["batch_size"] / row["ms_per_step"])
        assert row["peak_memory_mib"] is None or row["peak_memory_mib"] > 1  # the weights alone are more


@pytest.mark.parametrize("model", ["glow", "fvae", "two_stage", "cross_ae"])  # with checked losses, or a model inside
def test_a_step_of_every_kind_of_model_can_be_clocked(model):
    small = ["model.flow.width=8", "model.flow.depth=1"] if model in ("glow", "fvae") else []
    config = train_settings(f"model={model}", "data.image_size=32", *small)
    ready_model = ready(config, torch.device("cpu"))
    optimizer = ready_model.build_optimizer()
    before = [parameter.detach().clone() for group in optimizer.param_groups for parameter in group["params"]]
    step(ready_model, optimizer, random_batch(4, 32, torch.device("cpu")), mixed=False)
    after = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_model_that_cannot_be_built_is_a_note():
    rows = bench(settings(*TINY, "sections=training", "models=[ae]", "sizes=[31]"))["training"]
    assert rows[0]["model"] == "ae"
    assert "31 pixels" in rows[0]["note"]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("sections=[loeder]", "did you mean 'loader'"),
        ("models=[vea]", "did you mean 'vae'"),
        ("images=100", "at least 512"),
        ("seconds=0", "seconds=0"),
        ("sizes=64", "sizes="),
        ("out=/nowhere/bench.json", "cannot be written"),
    ],
)
def test_wrong_settings_are_refused(override, sentence):
    with pytest.raises(ZooError, match=sentence):
        selected(check(settings(override), BenchSettings))


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


@pytest.mark.skipif(process_memory("VmHWM", "status") is None, reason="needs /proc")
def test_peak_memory_sees_what_is_freed_again():
    peak = peak_memory(lambda: torch.ones(2**24), torch.device("cpu"))  # 64 MiB
    assert peak is None or 60 * 2**20 < peak < 100 * 2**20


def test_the_command_explains_itself_and_refuses_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["zoo.bench", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "sections=[loader]" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["zoo.bench", "sections=[loeder]"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.strip() == "zoo: sections=loeder cannot be measured; did you mean 'loader'?"
