import json
import math

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from golden.fill import fill_model, rand
from plain_context_attention import PlainAttentionConv3D

from common.contextpose.v2v import V2VNet
from common.keypoints import (
    CONTEXTPOSE_17,
    CONTEXTPOSE_17_FROM_H36M_32,
    CONTEXTPOSE_17_NAMES,
    CONTEXTPOSE_LIMBS,
    H36M_32_NAMES,
)

CONTEXT = np.linspace(110, 450, 16), np.linspace(5, 25, 16), 1500, 2500.0


def test_names_shapes_and_outputs_are_the_published_ones():
    golden = np.load(GOLDEN / "contextpose_v2v_d16.npz")
    keys = json.loads((GOLDEN / "contextpose_v2v_d16.keys.json").read_text())
    network = fill_model(V2VNet(32, 17, *(golden[k] for k in (
        "limb_mean", "limb_std", "temperature", "cuboid_size")))).eval()
    assert {name: list(tensor.shape) for name, tensor in network.state_dict().items()} == keys
    with torch.no_grad():
        outputs = network(torch.from_numpy(rand(int(golden["input_seed"]), *golden["input_shape"])))
    for ours, name in zip(outputs, ("output", "global_attention"), strict=True):
        assert np.abs(ours.numpy() - golden[name]).max() < 1e-5 * np.abs(golden[name]).max()


@pytest.mark.parametrize("train", [True, False])
def test_outputs_gradients_and_statistics_are_those_with_the_direct_attention(train):
    networks = [fill_model(V2VNet(5, 17, *CONTEXT)).double().train(train) for _ in range(2)]
    plain = PlainAttentionConv3D(51, 51, *CONTEXT, logarithms=True).double()
    plain.load_state_dict(networks[1].encoder_decoder.mid_res.atten_conv.state_dict())
    networks[1].encoder_decoder.mid_res.atten_conv = plain
    for network in networks:
        volumes, attention = network(torch.from_numpy(rand(0, 2, 5, 12, 12, 12)).double())
        assert volumes.shape == (2, 17, 12, 12, 12) and attention.shape == (2, 17, 27)
        weights = torch.from_numpy(rand(1, *volumes.shape)), torch.from_numpy(rand(2, *attention.shape))
        ((volumes * weights[0]).sum() + (attention * weights[1]).sum()).backward()
    states, expected = (network.state_dict() for network in networks)
    assert all(torch.allclose(states[name].double(), expected[name].double()) for name in expected)
    expected = {name: weight.grad for name, weight in networks[1].named_parameters()}
    noise = 1e-10 * max(grad.abs().max() for grad in expected.values())  # a bias before batch norm has gradient 0
    for name, weight in networks[0].named_parameters():
        assert (weight.grad - expected[name]).abs().max() <= noise + 1e-9 * expected[name].abs().max(), name


def test_a_volume_gives_the_same_in_any_batch():
    network = fill_model(V2VNet(5, 17, *CONTEXT)).eval()
    x = torch.from_numpy(rand(0, 3, 5, 8, 8, 8))
    with torch.no_grad():
        together, alone = network(x), [network(volume[None]) for volume in x]
    for i in range(2):
        torch.testing.assert_close(torch.cat([one[i] for one in alone]), together[i], rtol=1e-4, atol=1e-5)


def test_the_same_numbers_under_bfloat16_autocast_up_to_its_rounding():
    network = fill_model(V2VNet(5, 17, *CONTEXT)).eval()
    x = torch.from_numpy(rand(0, 1, 5, 16, 16, 16))
    with torch.no_grad():
        exact = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(x)
    assert rounded[1].dtype == torch.float32
    for a, b in zip(rounded, exact, strict=True):
        assert (a - b).abs().max() < 0.05 * b.abs().max()


def test_convolutions_start_small_and_those_of_the_context_as_xavier_says():
    torch.manual_seed(0)
    for name, tensor in V2VNet(32, 17, *CONTEXT).named_parameters():
        if ".convlist." in name:
            assert tensor.std().item() == pytest.approx(math.sqrt(2 / (3 + 51)), rel=0.25), name
        elif tensor.dim() == 5:
            assert tensor.std().item() == pytest.approx(0.001, rel=0.35), name
        elif name.endswith("bias"):
            assert not tensor.any(), name
        else:
            assert (tensor == 1).all(), name  # batch norm


@pytest.mark.parametrize("shape", [(1, 5, 8, 8, 12), (1, 5, 10, 10, 10), (1, 5, 4, 4, 4), (1, 6, 8, 8, 8),
                                   (5, 8, 8, 8)])
def test_input_of_a_wrong_shape_is_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"5, n, n, n.*got"):
        V2VNet(5, 17, *CONTEXT)(torch.zeros(shape))


def test_joints_limbs_and_sides_agree_with_human36m():
    picked = [H36M_32_NAMES[j] for j in CONTEXTPOSE_17_FROM_H36M_32]
    other = {"hip": "pelvis", "spine": "belly", "thorax": "neck", "neck": "nose"}
    assert [other.get(name, name) for name in picked] == CONTEXTPOSE_17_NAMES
    parents = {frozenset((j, parent)) for j, parent in enumerate(CONTEXTPOSE_17.parents()) if parent >= 0}
    assert parents == {frozenset(limb) for limb in CONTEXTPOSE_LIMBS}
    assert CONTEXTPOSE_17.joints_left() == [3, 4, 5, 13, 14, 15]
    assert CONTEXTPOSE_17.joints_right() == [2, 1, 0, 12, 11, 10]
