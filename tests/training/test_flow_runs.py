"""Whole runs of the flows on pixels: two ranks, resume, and what happens when one diverges."""

import pytest
import torch

from tests.training.test_ddp_games import TOLERANCE, trained_by_one_and_two
from tests.training.test_resume import assert_same_end, cut_after_the_first, final
from zoo.models.glow import Glow
from zoo.runs.checkpoint import all_of

SMALL = ["model.flow.depth=2", "model.flow.width=8", "ema_decay=0.9"]
FLOWS = {
    "glow": ["model=glow", *SMALL],
    "fvae": ["model=fvae", "model.backbone.blocks=1", "model.backbone.width=8", *SMALL],
}


@pytest.fixture
def digits_only(tiny) -> list[str]:
    """Overrides for 8 steps on tiny digits, without those that a flow does not have."""
    return [override for override in tiny if not override.startswith("model.")]


@pytest.mark.parametrize("flow", FLOWS)
def test_two_ranks_equal_one(zoo, digits_only, tmp_path, flow):
    """The data-dependent scales are the same on both."""
    one, two = trained_by_one_and_two(zoo, tmp_path, [*digits_only, *FLOWS[flow]])
    assert all(one[name] for name in one if name.endswith("initialized"))
    assert max((one[name].float() - two[name].float()).abs().max().item() for name in one) < 10 * TOLERANCE


@pytest.mark.parametrize("flow", FLOWS)
def test_a_resumed_run_equals_the_uninterrupted_one(zoo, digits_only, tmp_path, flow):
    """It does not set the data-dependent scales anew."""
    assert zoo("train", *digits_only, *FLOWS[flow], "keep_last_k=9", "hydra.run.dir=full").code == 0
    cut_after_the_first(tmp_path / "full", tmp_path / "cut")
    resumed = zoo("train", "resume=cut")
    assert resumed.code == 0, resumed.err
    assert_same_end(tmp_path / "full", tmp_path / "cut")


def test_a_flow_that_diverges_names_its_layer_and_leaves_a_good_checkpoint(zoo, digits_only, tmp_path, monkeypatch):
    good = Glow.losses

    def spoilt(model, batch):
        if model.images_seen >= 40:
            model.flow.levels[1].steps[1].coupling.net[4].bias.data.fill_(float("nan"))
        return good(model, batch)

    monkeypatch.setattr(Glow, "losses", spoilt)
    done = zoo("train", *digits_only, *FLOWS["glow"], "hydra.run.dir=run")
    assert done.code == 2
    sentence = done.err.strip().splitlines()[-1]
    assert "after 40 images: the loss is not finite (level 2, step 2 of 2, coupling)" in sentence
    assert "model.param_groups" in sentence
    assert [int(path.stem) for path in all_of(tmp_path / "run")] == [32, 16]
    assert all(value.isfinite().all() for value in final(tmp_path / "run")["state_dict"].values() if torch.is_floating_point(value))
    monkeypatch.setattr(Glow, "losses", good)
    assert zoo("train", "resume=run").code == 0


BAD = {
    "model.flow.levels=4": ["cannot halve 28×28 pixels 4 times", "model.flow.levels=null"],
    "model.flow.memory=none": ["model.flow.memory is 'none'", "'plain'"],
    "model.n_bits=9": ["model.n_bits=9", "1 to 8"],
    "model.flow.memory=reversible": ["compile=true", "reversible", "checkpoint or plain"],
}


@pytest.mark.parametrize("override", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(zoo, digits_only, tmp_path, override):
    done = zoo("train", *digits_only, "model=glow", override, "compile=true")
    assert done.code == 2, (done.out, done.err)
    assert len(done.err.strip().splitlines()) == 1, done.err
    for part in BAD[override]:
        assert part in done.err, done.err
    assert list(tmp_path.iterdir()) == []
