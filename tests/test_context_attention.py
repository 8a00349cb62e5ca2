import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from conftest import GOLDEN, ROOT, script_environment
from golden.fill import fill_model, rand
from plain_context_attention import PlainAttentionConv3D

from common.contextpose import pairwise
from common.contextpose.v2v import AttentionConv3D
from common.keypoints import CONTEXTPOSE_LIMBS

CUBOID = 2500.0
MEAN = np.linspace(110, 450, 16)
STD = np.linspace(11, 25, 16)
RIGID = np.full(16, 5.0)
NARROW = np.full(16, 8.65)  # nearly the smallest deviation at which float32 has the range for every limb
# side, means and standard deviations of the limbs in mm, temperature, factor on the logits of the global attention
CASES = [
    (2, MEAN, STD, 1500, 1),
    (3, MEAN[::-1], STD, 1500, 30),
    (6, MEAN, STD, 1500, 300),
    (7, MEAN, RIGID, 1500, 300),
    (6, MEAN, np.where(np.arange(16) % 3, STD, RIGID), 300, 1000),
    (6, 4 * MEAN, RIGID, 1, 1),
    (6, MEAN, RIGID, 1, 300),
    (5, 0 * MEAN, 0 * STD, 1500, 30),
    (7, MEAN, NARROW, 1500, 300),
]


def build(case, kind=AttentionConv3D, **options):
    _, mean, std, temperature, gain = case
    layer = fill_model(kind(34, 51, mean, std, temperature, CUBOID, **options)).double()
    layer.atten_conv.weight.data *= gain
    return layer


def volumes(case, batch=2, dtype=torch.float64, seed=0):
    return torch.from_numpy(rand(seed, batch, 34, *[case[0]] * 3)).to(dtype)


def results(layer, x, scale=1):
    """Features, attention, and the gradients of a scalar that every number of both weighs in differently."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    outputs = layer(x)
    loss = sum((y * torch.from_numpy(rand(7 + i, *y.shape)).to(y)).sum() for i, y in enumerate(outputs))
    (scale * loss).backward()
    return {"features": outputs[0], "attention": outputs[1], "input": x.grad,
            **{name: weight.grad for name, weight in layer.named_parameters()}}


def assert_close(ours, truth, tolerance):
    for name, expected in truth.items():
        error = (ours[name].double() - expected.double()).abs().max()
        assert error <= tolerance * expected.abs().max(), (name, error)  # wrong also for NaN


def test_names_shapes_and_outputs_are_the_published_ones():
    golden = np.load(GOLDEN / "contextpose_attention_d8.npz")
    keys = json.loads((GOLDEN / "contextpose_attention_d8.keys.json").read_text())
    layer = fill_model(AttentionConv3D(34, 51, *(golden[k] for k in (
        "limb_mean", "limb_std", "temperature", "cuboid_size"))))
    assert {name: list(tensor.shape) for name, tensor in layer.state_dict().items()} == keys
    x = torch.from_numpy(golden["input"])
    published = {"features": torch.from_numpy(golden["output"]),
                 "attention": torch.from_numpy(golden["global_attention"])}
    for mode in (True, False):
        layer.train(mode)
        assert_close(dict(zip(published, layer(x), strict=True)), published, 1e-6)
        assert_close(dict(zip(published, layer.double()(x.double()), strict=True)), published, 1e-6)
        layer.float()


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_equal_the_direct_form_in_logarithms(case):
    layer, plain = build(case), build(case, PlainAttentionConv3D, logarithms=True)
    assert_close(results(layer, volumes(case)), results(plain, volumes(case)), 1e-12)


def test_the_two_direct_forms_are_one():
    plain, logarithmic = (build(CASES[2], PlainAttentionConv3D, logarithms=flag) for flag in (False, True))
    assert_close(results(plain, volumes(CASES[2])), results(logarithmic, volumes(CASES[2])), 1e-12)


@pytest.mark.parametrize("case", CASES)
def test_float32_is_as_right_where_sums_are_too_small_for_it(case):
    truth = results(build(case, PlainAttentionConv3D, logarithms=True), volumes(case))
    # Logits of some hundreds are rounded to 1e-5, and what depends on the logits with them.
    assert_close(results(build(case).float(), volumes(case, dtype=torch.float32)), truth, 2e-6 * max(10, case[-1]))


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_float32_has_the_range_for_the_gradients_of_any_loss(scale):
    case = CASES[-1]
    assert [group.kernel.dtype for group in pairwise.limb_groups(
        build(case).limbs, CUBOID / 6, 7, torch.float32, "cpu")] == [torch.float32]
    one, scaled = (results(build(case).float(), volumes(case, dtype=torch.float32), s) for s in (1, scale))
    for name, gradient in one.items():
        if name not in ("features", "attention"):
            assert_close({name: scaled[name].double() / scale}, {name: gradient}, 1e-4)


@pytest.mark.parametrize("std, temperature", [(STD, 1500), (NARROW, 1500), (RIGID, 1500), (RIGID, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_joint_that_is_in_a_corner_for_sure_gives_what_it_has_there_to_all_voxels(std, temperature, dtype):
    n = 9
    (limbs,) = {tuple(pairwise.Limb(m, 2 * temperature * s ** 2 + 0.1) for m, s in zip(MEAN, std, strict=True))}
    step = CUBOID / (n - 1)
    logits = torch.full((1, 16, 2, n ** 3), -1e6, dtype=dtype)
    logits[..., 0] = 0
    values = torch.randn(1, 16, 2, 3, n ** 3, dtype=dtype)
    for group in pairwise.limb_groups(limbs, step, n, dtype, "cpu"):
        given = values[:, list(group.indices)]
        averages = pairwise.context_averages(logits[:, list(group.indices)], given, group, limbs, step)
        torch.testing.assert_close(averages.to(dtype), given[..., :1].expand_as(given), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", [CASES[1], CASES[6]])
def test_numerical_gradients_agree(case):
    case = (3, *case[1:])
    layer, x = build(case), volumes(case, 1).requires_grad_()
    names, weights = zip(*layer.named_parameters(), strict=True)

    def call(x, *weights):
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *weights), fast_mode=True)


def test_work_in_small_parts_changes_nothing(monkeypatch):
    for case in (CASES[2], CASES[6]):
        whole = results(build(case), volumes(case))
        with monkeypatch.context() as patch:
            patch.setattr(pairwise, "BLOCK_NUMBERS", 3 * case[0] ** 4)
            patch.setattr(pairwise, "ROW_NUMBERS", 7 * case[0] ** 3)
            assert_close(results(build(case), volumes(case)), whole, 1e-12)


@pytest.mark.parametrize("case", CASES)
def test_a_volume_gives_the_same_in_any_batch(case):
    layer, x = build(case), volumes(case, 3)
    with torch.no_grad():
        together, alone = layer(x), [layer(volume[None]) for volume in x]
        assert [tuple(y.shape[1:]) for y in layer(x[:0])] == [tuple(y.shape[1:]) for y in together]
    for i in range(2):
        torch.testing.assert_close(torch.cat([one[i] for one in alone]), together[i], rtol=1e-10, atol=1e-12)


def test_the_step_is_that_of_the_volume_that_comes():
    layer = build(CASES[2])
    for side in (4, 6, 4):
        case = (side, *CASES[2][1:])
        plain = build(case, PlainAttentionConv3D, logarithms=True)
        assert_close(results(layer, volumes(case)), results(plain, volumes(case)), 1e-12)


def test_lengths_after_the_16th_are_not_used():
    case = CASES[2]
    longer = build((*case[:1], [*MEAN, 1], torch.tensor([*STD, 1.0]), *case[3:]))
    assert torch.equal(longer(volumes(case))[0], build(case)(volumes(case))[0])


def test_autocast_and_inference_mode_leave_the_numbers_alone():
    layer, x = build(CASES[2]).float(), volumes(CASES[2], dtype=torch.float32)
    with torch.inference_mode():
        layer(x)  # what is kept of this call must serve the training below
    pairwise.limb_groups.cache_clear()
    with torch.inference_mode():
        layer(x)
    exact = results(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        features, attention = layer(x)
        assert features.dtype == attention.dtype == torch.float32
    assert torch.equal(features, exact["features"]) and torch.equal(attention, exact["attention"])
    half = layer.bfloat16()(x.bfloat16())[0]
    assert half.dtype == torch.bfloat16 and half.isfinite().all()


MEMORY = """
import pathlib, torch
from common.contextpose.v2v import AttentionConv3D
def step(side, std):
    x = torch.randn(1, 51, side, side, side, requires_grad=True)
    features, attention = AttentionConv3D(51, 51, [300.0] * 16, [std] * 16, 1500, 2500)(x)
    (features.square().sum() + attention.square().sum()).backward()
def peak():
    return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e3
step(2, 15.0)
before = peak()
for side, std in ((16, 15.0), (16, 5.0), (24, 15.0)):
    step(side, std)
    print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_forward_and_backward_need_no_matrix_of_all_pairs_of_voxels():
    done = subprocess.run([sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, text=True,
                          env=script_environment(), check=True)
    peaks = [float(line) for line in done.stdout.split()]
    assert all(peak < megabytes for peak, megabytes in zip(peaks, (100, 150, 350), strict=True)), peaks


@pytest.mark.parametrize("options, words", [
    ({"in_channels": 35}, "in_channels.*17 joints, got 35"),
    ({"out_channels": 0}, "out_channels.*got 0"),
    ({"limb_mean": MEAN[:15]}, "16 limbs, got 15 and 16"),
    ({"limb_mean": MEAN[:15], "limb_std": STD[:15]}, "16 limbs, got 15"),
    ({"limb_std": -STD}, "lengths in mm"),
    ({"limb_mean": MEAN * np.nan}, "lengths in mm"),
    ({"temperature": 0}, "temperature.*got 0"),
    ({"cuboid_size": -1}, "cuboid_size.*got -1"),
])
def test_layers_that_cannot_be_are_refused(options, words):
    arguments = {"in_channels": 34, "out_channels": 51, "limb_mean": MEAN, "limb_std": STD, "temperature": 1500,
                 "cuboid_size": CUBOID, **options}
    with pytest.raises(ValueError, match=words):
        AttentionConv3D(**arguments)


@pytest.mark.parametrize("shape", [(1, 34, 4, 4, 5), (1, 34, 5, 4, 4), (1, 51, 4, 4, 4), (1, 34, 1, 1, 1),
                                   (34, 4, 4, 4)])
def test_volumes_that_are_no_cubes_are_refused(shape):
    with pytest.raises(ValueError, match=r"34, n, n, n.*got"):
        build(CASES[0])(torch.zeros(shape))


def test_every_joint_has_a_limb_and_none_twice():
    assert {j for limb in CONTEXTPOSE_LIMBS for j in limb} == set(range(17))
    assert len({frozenset(limb) for limb in CONTEXTPOSE_LIMBS}) == 16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AttentionConv3D(17, 17, MEAN, STD, 1500, CUBOID)
