"""The memory modes give what plain gives, keep what they say they keep, and fail loudly where they cannot work."""

import copy

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from tests.nets.test_flows import images, moved
from zoo.nets.flows import Step
from zoo.nets.reversible import Steps

KINDS = {
    "glow": {},
    "tanh": {"scale": "tanh"},
    "fvae": {"affine": False, "conv": False},
}
MODES = ("checkpoint", "reversible")


def row(kind="glow", memory="plain", depth=3, width=8):
    torch.manual_seed(0)
    return moved(Steps([Step(4, width, **KINDS[kind]) for _ in range(depth)], memory).double())


def outcome(steps, x, with_log_det=True, passes=1):
    """Values and gradients of a loss; `passes` backward passes over different batches add up."""
    x = x.clone().requires_grad_(x.requires_grad)
    for index in range(passes):
        z, log_det = steps(x + index)
        loss = z.pow(3).sum() + (log_det.square().sum() if with_log_det else 0)
        loss.backward()
    return [z.detach(), log_det.detach(), x.grad, *(p.grad for p in steps.parameters())]


def assert_equal(found, expected):
    """To 1e-10 of the largest number; no gradient counts as zeros (a log-determinant's parameter where it is not used)."""
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10 * max(1, other.abs().max().item()))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_log_det", [True, False])
@pytest.mark.parametrize("of_input", [True, False])
def test_values_and_gradients_are_those_of_plain(mode, kind, with_log_det, of_input):
    x = images().requires_grad_(of_input)
    expected = outcome(row(kind), x, with_log_det)
    assert all(p.abs().max() > 0 for p in expected[3:])
    assert_equal(outcome(row(kind, mode), x, with_log_det), expected)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_two_backward_passes_add_up(mode):
    assert_equal(outcome(row(memory=mode), images(), passes=2), outcome(row(), images(), passes=2))


@pytest.mark.parametrize("mode", MODES)
def test_two_rows_one_after_the_other_in_one_graph(mode):
    """Also the same row twice: its gradients add up within one backward pass."""

    def twice(steps):
        z, first = steps(images())
        z, second = steps(z)
        (z.square().sum() + first.sum() + 2 * second.sum()).backward()
        return [p.grad for p in steps.parameters()]

    assert_equal(twice(row(memory=mode)), twice(row()))


def test_frozen_parameters_receive_no_gradient():
    def call_with_detached_params(memory):
        steps = row(memory=memory)
        steps.steps[1].requires_grad_(False)
        steps.steps[2].coupling.requires_grad_(False)
        return outcome(steps, images())

    expected = call_with_detached_params("plain")
    assert sum(gradient is None for gradient in expected[3:]) == 15  # of 27: a step (9) and a coupling (6)
    assert_equal(call_with_detached_params("reversible"), expected)


@pytest.mark.parametrize("mode", ["plain", *MODES])
def test_without_gradients_nothing_is_kept(mode):
    with torch.no_grad():
        z, _ = row(memory=mode)(images())
    assert z.grad_fn is None
    torch.testing.assert_close(row(memory=mode).inverse(z), images(), rtol=0, atol=1e-10)


def kept_bytes(steps, x):
    """Of tensors saved for the backward pass, each storage once, without the parameters."""
    own = {p.untyped_storage().data_ptr() for p in steps.parameters()}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        held = steps(x)
    assert held[0].requires_grad
    return sum(kept.values())


def test_what_is_kept_for_the_backward_pass():
    x = images(16).float()
    plain, checkpoint, reversible = (kept_bytes(row(memory=mode, depth=6, width=32).float(), x) for mode in ("plain", *MODES))
    assert checkpoint == 6 * x.nbytes  # each step's input
    assert reversible == x.nbytes  # the output
    assert plain > 6 * 2 * x.nbytes * 32 / 4  # the hidden layers of the nets, and more


@pytest.mark.parametrize("mixed", [False, True])
def test_each_net_runs_twice_and_in_the_precision_of_the_forward_pass(mixed):
    """Once forward, once in the backward pass, which runs outside of autocast. The gradients of what ran in float32 stay float32."""
    steps, x = row(memory="reversible").float(), images(8).float()
    seen = []
    for step in steps.steps:
        step.coupling.net.register_forward_hook(lambda net, inputs, output: seen.append(output.dtype))

    def gradients(memory):
        steps.memory = memory
        steps.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            z, log_det = steps(x)
            loss = z.square().sum() - log_det.sum()
        loss.backward()
        return [p.grad.clone() for p in steps.parameters()]

    found = gradients("reversible")
    assert seen == [torch.bfloat16 if mixed else torch.float32] * 6
    expected = gradients("plain")
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < (2e-3 if mixed else 1e-5) * other.norm()


def test_parameters_that_changed_since_are_an_error():
    steps = row(memory="reversible")
    loss = steps(images())[0].sum()
    with torch.no_grad():
        steps.steps[1].actnorm.shift += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_functional_call_is_refused():
    steps = row(memory="reversible")
    others = {name: p.detach().clone().requires_grad_() for name, p in steps.named_parameters()}
    loss = torch.func.functional_call(steps, others, (images(),))[0].sum()
    with pytest.raises(RuntimeError, match="functional_call"):
        loss.backward()


@pytest.fixture
def group(tmp_path):
    torch.distributed.init_process_group("gloo", store=torch.distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without torch.distributed")
@pytest.mark.parametrize("mode", MODES)
def test_ddp_sees_the_gradient_of_every_parameter(group, mode):
    """A second step would fail if the reducer had not seen all gradients of the first."""
    expected = outcome(row(), images(), passes=2)
    steps = row(memory=mode)
    wrapped = DistributedDataParallel(copy.deepcopy(steps))
    for index in range(2):
        z, log_det = wrapped(images() + index)
        (z.pow(3).sum() + log_det.square().sum()).backward()
    assert_equal([p.grad for p in wrapped.module.parameters()], expected[3:])
