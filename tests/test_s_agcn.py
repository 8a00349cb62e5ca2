import copy
import json

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from golden.fill import fill_model
from plain_s_agcn import PlainS_AGCN

from common import agcn_inference, cpu, unit_pass
from common.ranger import Ranger
from common.s_agcn import S_AGCN

CASES = {"h36m": "h36m", "humaneva15": "humaneva15", "he13_15": "humaneva15_he13", "he13_coco17": "humaneva15_he13"}
# joints in, joints out, widths, causal, channels, dataset, pose sequence
VARIANTS = [
    (17, 17, (3, 3), False, 8, "h36m", False),
    (17, 17, (3, 5), True, 10, "h36m", True),
    (15, 15, (5, 1), False, 2, "humaneva15", True),
    (17, 15, (3,), True, 1, "humaneva15_he13", False),
    (15, 15, (3,), False, 6, "humaneva15_he13", False),
    (17, 17, (11, 3), True, 6, "mpi_inf_3dhp", False),
    (17, 17, (1,), False, 8, "mpi_inf_3dhp", True),
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks and groups even for small batches."""
    monkeypatch.setattr(cpu, "BLOCK_NUMBERS", 30 * 17 * 8)
    monkeypatch.setattr(agcn_inference, "GROUP_WINDOWS", 4)


def build(variant, kind=S_AGCN, dropout=0.0):
    joints_in, joints_out, widths, causal, channels, dataset, sequence = variant
    torch.manual_seed(1)
    return kind(joints_in, 2, joints_out, list(widths), causal, dropout, channels, dataset, pose_sequence=sequence)


def pair(variant, dropout=0.0):
    """Ours and the plain network with the same weights, away from the initial ones, in float64."""
    model, plain = build(variant, dropout=dropout).double(), build(variant, PlainS_AGCN).double()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor += 0.1 * torch.randn_like(tensor)
    plain.load_state_dict(model.state_dict())
    return model, plain


def windows(model, count=5, seed=0):
    rng = np.random.default_rng(seed)
    shape = count, model.receptive_field(), model.num_joints_in, 2
    return torch.from_numpy(rng.normal(size=shape)).to(model.data_bn.weight.dtype)


def outputs(result):
    return result if isinstance(result, tuple) else (result,)


def loss_of(result, seed=0):
    """A scalar that every output and joint weighs in differently."""
    rng = np.random.default_rng(seed)
    return sum((tensor * torch.from_numpy(rng.normal(size=tensor.shape)).to(tensor.dtype)).sum()
               for tensor in outputs(result))


def largest_difference(a, b):
    return ((a - b).abs().max() / b.abs().max().clamp(min=1e-12)).item()


@pytest.mark.parametrize("case", CASES)
def test_names_shapes_outputs_and_training_are_the_published_ones(case):
    golden = np.load(GOLDEN / f"gla_gcn_{case}_c32_f27.npz")
    keys = json.loads((GOLDEN / f"gla_gcn_{case}_c32_f27.keys.json").read_text())
    x, target = torch.from_numpy(golden["input"]), torch.from_numpy(golden["target"])
    model = S_AGCN(x.shape[2], 2, target.shape[2], [3, 3, 3], channels=32, dataset=CASES[case], dropout=0)
    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == keys

    fill_model(model).eval()
    with torch.no_grad():
        assert np.abs(model(x).numpy() - golden["output"]).max() < 1e-4 * np.abs(golden["output"]).max()
    model.train()
    optimizer = Ranger(model.parameters(), lr=0.01)
    losses = []
    for _ in range(7):
        loss = torch.linalg.vector_norm(model(x) - target, dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[:4] == pytest.approx(golden["train_losses"][:4], rel=1e-3)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "composed"])
def test_outputs_gradients_and_statistics_equal_the_plain_network(variant, fast):
    model, plain = pair(variant)
    model.fast = fast
    for step in range(2):
        x = windows(model, seed=step)
        result, expected = model(x), plain(x)
        for network, value in ((model, result), (plain, expected)):
            network.zero_grad()
            loss_of(value).backward()
        assert all(largest_difference(a, b) < 1e-9
                   for a, b in zip(outputs(result), outputs(expected), strict=True))
    gradients = {name: tensor.grad for name, tensor in plain.named_parameters()}
    noise = 1e-8 * max(grad.abs().max() for grad in gradients.values() if grad is not None)
    for name, tensor in model.named_parameters():
        if gradients[name] is not None:
            assert (tensor.grad - gradients[name]).abs().max() < noise + 1e-6 * gradients[name].abs().max(), name
    statistics = dict(plain.named_buffers())
    for name, tensor in model.named_buffers():
        if "running" in name or "tracked" in name:
            assert largest_difference(tensor.double(), statistics[name].double()) < 1e-9, name
    model.eval(), plain.eval()
    with torch.no_grad():
        for a, b in zip(outputs(model(x)), outputs(plain(x)), strict=True):
            assert largest_difference(a, b) < 1e-9


def test_a_window_is_predicted_alike_in_any_batch():
    model = fill_model(build(VARIANTS[0])).eval()
    x = windows(model, 9)
    with torch.no_grad():
        together = model(x)
        alone = torch.cat([model(window[None]) for window in x])
    assert largest_difference(alone, together) < 1e-5


def test_an_empty_batch_gives_no_poses():
    model = build(VARIANTS[0]).eval()
    with torch.no_grad():
        assert model(windows(model, 0)).shape == (0, 1, 17, 3)


def test_prediction_notices_every_change_of_weights():
    model = build(VARIANTS[0]).eval()
    x = windows(model)
    with torch.no_grad():
        before = model(x)
        model.expand_gcn.tcn1.conv.weight.data.mul_(1.5)
        assert not torch.equal(model(x), before)
        fill_model(model)
        assert torch.equal(model(x), fill_model(build(VARIANTS[0])).eval()(x))


def test_gradients_belong_to_the_dropout_of_their_forward_pass():
    model, _ = pair(VARIANTS[1], dropout=0.3)
    x = windows(model)
    weights = list(model.parameters())
    directions = [torch.randn_like(weight) for weight in weights]

    def loss(distance):
        with torch.no_grad():
            for weight, direction in zip(weights, directions, strict=True):
                weight += distance * direction
        torch.manual_seed(7)
        return loss_of(model(x))

    loss(0).backward()
    slope = sum((weight.grad * direction).sum() for weight, direction in zip(weights, directions, strict=True))
    numerical = (loss(1e-7) - loss(-2e-7)) / 2e-7  # the second step goes back past the start
    assert slope.item() == pytest.approx(numerical.item(), rel=1e-4)


def test_dropout_drops_the_share_it_is_told_and_keeps_the_mean():
    model = build(VARIANTS[0], dropout=0.2)
    x = windows(model, 40)
    loss_of(model(x)).backward()
    masks = [tensor for name, tensor in model.workspaces.take().items() if name.startswith("h_mask")]
    kept = torch.cat([mask.flatten() for mask in masks]).float()
    assert len(masks) == 5 and kept.mean().item() == pytest.approx(0.8, abs=0.005)
    assert not torch.equal(masks[0], masks[1])
    # What is left of the batch norms' outputs is scaled up.
    assert unit_pass._scale(0.2) * kept.mean().item() == pytest.approx(1, abs=0.01)


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    def train(model):
        torch.manual_seed(3)
        optimizer = Ranger(model.parameters(), lr=0.01)
        for step in range(3):
            optimizer.zero_grad()
            loss_of(model(windows(model, seed=step))).backward()
            optimizer.step()
        return model.state_dict()

    first, second = (train(build(VARIANTS[0], dropout=0.1)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_forward_passes_before_backward_do_not_disturb_each_other():
    model, plain = pair(VARIANTS[0])
    for network in (model, plain):
        (loss_of(network(windows(model, seed=1))) + loss_of(network(windows(model, seed=2)), 1)).backward()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert (a.grad - b.grad).abs().max() < 1e-6


def test_backward_a_second_time_is_refused_and_says_what_to_do():
    model = build(VARIANTS[0])
    loss = loss_of(model(windows(model)))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="fast = False"):
        loss.backward()


def test_input_gradients_frozen_statistics_and_hooks_are_served():
    model, plain = pair(VARIANTS[0])
    x = windows(model)
    for network in (model, plain):
        network.expand_gcn.gcn1.bn.eval()
        seen = []
        network.expand_gcn.register_forward_hook(lambda *_, seen=seen: seen.append(True))
        leaf = x.clone().requires_grad_()
        loss_of(network(leaf)).backward()
        assert seen
        network.input_grad = leaf.grad
    assert largest_difference(model.input_grad, plain.input_grad) < 1e-9


def test_a_copy_shares_no_memory_and_evaluation_frees_what_training_kept():
    model = build(VARIANTS[0])
    loss_of(model(windows(model))).backward()
    assert not copy.deepcopy(model).workspaces.take()
    model.eval()
    assert not model.workspaces.take()


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_stays_near_float32_in_prediction_and_training(native, monkeypatch):
    monkeypatch.setattr(cpu, "has_bfloat16", lambda: native)
    model = build(VARIANTS[1])
    x = windows(model, 20)
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            result = model(x)
            assert all(tensor.dtype == torch.float32 for tensor in outputs(result))
            loss_of(result).backward()
        gradients.append(torch.cat([tensor.grad.flatten() for tensor in model.parameters()]))
    assert torch.linalg.vector_norm(gradients[1] - gradients[0]) < 0.1 * torch.linalg.vector_norm(gradients[0])
    model.eval()
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert all(largest_difference(a, b) < 0.05 for a, b in zip(model(x), exact, strict=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_the_traced_network_gives_the_same_poses():
    model = fill_model(build(VARIANTS[0])).eval()
    x = windows(model, 3)
    with torch.no_grad():
        traced = torch.jit.trace(model, x, check_trace=False)
        assert largest_difference(traced(x), model(x)) < 1e-4


def test_bn_momentum_goes_to_all_batch_norms_but_those_of_down_and_residual():
    model = build(VARIANTS[0])
    model.set_bn_momentum(0.03)
    kept = {name for name, part in model.named_modules() if getattr(part, "momentum", 0.03) == 0.1}
    assert kept == {"expand_gcn.gcn1.down.1", "expand_gcn.residual.bn"}
    assert model.data_bn.momentum == 0.03


def test_parameter_counts_are_the_published_ones():
    def count(model):
        return sum(tensor.numel() for tensor in model.parameters())

    assert count(S_AGCN(17, 2, 17, [3] * 5)) == 1_348_856
    assert count(S_AGCN(15, 2, 15, [3] * 3, dataset="humaneva15")) == 842_724


@pytest.mark.parametrize("options, words", [
    ({"dataset": "coco"}, "'coco'.*h36m"),
    ({"filter_widths": [3, 2]}, "odd"),
    ({"filter_widths": []}, "odd"),
    ({"num_joints_in": 14}, "14 input joints"),
    ({"input_layout": "humaneva15"}, "humaneva15.*coco"),
    ({"num_joints_in": 17, "input_layout": "body25"}, "body25"),
    ({"num_joints_out": 15}, "17 joints"),
    ({"num_joints_in": 13, "num_joints_out": 15, "dataset": "humaneva15_he13"}, "coco"),
])
def test_networks_that_cannot_be_are_refused(options, words):
    arguments = {"num_joints_in": 17, "in_features": 2, "num_joints_out": 17, "filter_widths": [3], **options}
    with pytest.raises(ValueError, match=words):
        S_AGCN(**arguments)


@pytest.mark.parametrize("shape", [(2, 9, 17, 3), (2, 8, 17, 2), (2, 9, 15, 2), (9, 17, 2)])
def test_input_of_a_wrong_shape_is_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"9, 17, 2.*got"):
        build(VARIANTS[0])(torch.zeros(shape))
