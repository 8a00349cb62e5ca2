import copy
import functools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from golden.fill import fill_model, rand
from test_safe_io import Hostile

from common.contextpose.config import Config
from common.contextpose.loss import training_loss
from common.contextpose.model import ContextPose, load_initial_weights, load_weights
from common.contextpose.volumetric import AGGREGATIONS
from common.utils import CheckpointError, UsageError

LIMB_MEAN, LIMB_STD = np.linspace(100, 400, 17), np.linspace(12, 25, 17)


@functools.cache
def built(**volume_net):
    settings = {"backbone": {"num_layers": 18}, "volume_net": {"volume_size": 8, **volume_net}}
    return fill_model(ContextPose({"model": settings}, LIMB_MEAN, LIMB_STD)).eval()


def build(**volume_net):
    """A small network away from its initial weights."""
    return copy.deepcopy(built(**volume_net))


def views(samples, count, side=64, seed=0):
    """Images, projections of cameras 4 m away on a circle round the origin, and pelvises near it."""
    random = np.random.default_rng(seed)
    projections = np.empty((samples, count, 3, 4))
    for place in np.ndindex(samples, count):
        a = random.uniform(0, 2 * np.pi)
        rotation = np.array([[np.cos(a), np.sin(a), 0], [0, 0, -1], [-np.sin(a), np.cos(a), 0]])
        extrinsic = np.concatenate((rotation, [[0], [0], [4000]]), axis=1)
        projections[place] = np.array([[side, 0, side / 2], [0, side, side / 2], [0, 0, 1]]) @ extrinsic
    pelvis = torch.from_numpy(random.normal(0, 100, (samples, 3)).astype(np.float32))
    return torch.from_numpy(rand(seed, samples, count, 3, side, side)), torch.from_numpy(projections), pelvis


@pytest.fixture(scope="module")
def golden():
    """The golden case: its arrays, our network with its weights, and what that network is to be given."""
    case = np.load(GOLDEN / "contextpose_full_r18_v1.npz")
    settings = {"backbone": {"num_layers": case["num_layers"]}, "volume_net": {
        "volume_size": case["volume_size"], "volume_aggregation_method": case["aggregation"],
        "temperature": case["temperature"], "cuboid_size": case["cuboid_size"]}}
    model = fill_model(ContextPose({"model": settings}, case["limb_mean"], case["limb_std"])).eval()
    images = torch.from_numpy(rand(int(case["input_seed"]), *case["input_shape"]))
    projections = torch.from_numpy(case["K"] @ np.concatenate((case["R"], case["t"]), axis=-1)).transpose(0, 1)
    return case, model, (images, projections, torch.from_numpy(case["base_points"]))


def test_names_shapes_and_outputs_are_the_published_ones(golden):
    case, model, given = golden
    keys = json.loads((GOLDEN / "contextpose_full_r18_v1.keys.json").read_text())
    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == keys
    with torch.no_grad():
        output = model(*given)
    points, n = output.coordinates, int(case["volume_size"])
    corner = points[:, 0, 0, 0]
    ours = {
        "heatmaps": output.heatmaps, "keypoints": output.keypoints, "global_attention": output.global_attention,
        "volumes_max": output.volumes.amax((2, 3, 4)), "coord_corner": corner, "coord_far": points[:, -1, -1, -1],
        "voxel_keypoints": (output.keypoints - corner[:, None]) / (float(case["cuboid_size"]) / (n - 1)),
    }
    for name, value in ours.items():
        assert np.abs(value.numpy() - case[name]).max() < 1e-4 * np.abs(case[name]).max(), name


@pytest.mark.parametrize("training", [False, True])
def test_losses_are_the_published_ones_and_train_every_weight_but_the_heatmaps(golden, training):
    case, model, given = golden
    model.train(training)
    if training:  # the published figures are of the running statistics
        for module in model.modules():
            if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
                module.eval()
    target = torch.from_numpy(case["keypoints_3d"])
    model.zero_grad()
    assert not any(tensor.requires_grad for tensor in model.backbone.final_layer.parameters())
    total, parts = training_loss(model(*given, angles=torch.zeros(2)), target, model.config.loss)
    total.backward()
    model.eval()
    published = {"MAE": "loss_mae", "volumetric_ce": "loss_ce", "global_attention": "loss_ga",
                 "limb_length_error_mm": "limb_length_error"}
    for ours, theirs in published.items():
        assert parts[ours].item() == pytest.approx(case[theirs].item(), rel=1e-4)
    weighted = case["loss_mae"] + 0.01 * case["loss_ce"] + 1e6 * case["loss_ga"]
    assert total.item() == pytest.approx(weighted.item(), rel=1e-4)
    untrained = {name for name, tensor in model.named_parameters() if tensor.grad is None or not tensor.grad.any()}
    # Its three channels are below 0 for these weights, where the ReLU after them passes no gradient.
    dead = "volume_net.encoder_decoder.mid_res.atten_conv.convlist.8.weight"
    assert untrained == {"backbone.final_layer.weight", "backbone.final_layer.bias", dead}
    assert all(tensor.grad.isfinite().all() for tensor in model.parameters() if tensor.grad is not None)


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    model = ContextPose({"model": {"backbone": {"num_layers": 18}, "volume_net": {"volume_size": 8}}}, LIMB_MEAN,
                        LIMB_STD).train()
    given = views(2, 1, side=32)
    target = given[2][:, None] + 300 * torch.from_numpy(rand(5, 2, 17, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        total, _ = training_loss(model(*given, angles=torch.zeros(2)), target, model.config.loss)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < 0.95 * losses[0]


def test_a_sample_gives_the_same_pose_alone_and_in_a_batch():
    model, given = build(), views(3, 2)
    with torch.no_grad():
        together = model(*given).keypoints
        alone = torch.cat([model(*(array[i:i + 1] for array in given)).keypoints for i in range(3)])
    assert torch.allclose(alone, together, atol=0.05)


@pytest.mark.parametrize("method", ["sum", "max", "softmax"])
def test_the_order_of_the_views_does_not_matter_and_a_view_given_twice_adds_nothing(method):
    model = build(volume_aggregation_method=method)
    images, projections, pelvis = views(2, 3)
    with torch.no_grad():
        three = model(images, projections, pelvis).keypoints
        turned = model(images.flip(1), projections.flip(1), pelvis).keypoints
        one = model(images[:, :1], projections[:, :1], pelvis).keypoints
        twice = model(images[:, [0, 0]], projections[:, [0, 0]], pelvis).keypoints
    assert torch.allclose(turned, three, atol=0.05)
    assert not torch.allclose(one, three, atol=1)
    if method != "sum":
        assert torch.allclose(twice, one, atol=0.05)


@pytest.mark.parametrize("method", [name for name in AGGREGATIONS if name.startswith("conf")])
def test_views_are_weighed_by_confidences(method):
    model = build(volume_aggregation_method=method)
    with torch.no_grad():
        output = model(*views(1, 2, side=320))
    assert output.keypoints.isfinite().all() and "backbone.vol_confidences.head.4.weight" in model.state_dict()


def test_moving_the_world_moves_the_pose_with_it():
    model, (images, projections, pelvis) = build(), views(2, 2)
    shift = torch.tensor([1000.0, -2000, 300])
    moved = projections.clone()
    moved[..., 3] -= torch.einsum("bvij,j->bvi", projections[..., :3], shift.double())
    with torch.no_grad():
        here, there = model(images, projections, pelvis).keypoints, model(images, moved, pelvis + shift).keypoints
    assert torch.allclose(there - shift, here, atol=0.2)


def test_training_turns_the_volume_at_random_and_evaluation_never():
    model, given = build().train(), views(2, 1)
    corners = [model(*given).coordinates[:, 0, 0, 0].detach() for _ in range(2)]
    assert not torch.allclose(corners[0], corners[1], atol=1)
    assert not torch.allclose(corners[0][0] - given[2][0], corners[0][1] - given[2][1], atol=1)
    model.eval()
    with torch.no_grad():
        assert torch.allclose(model(*given).coordinates[:, 0, 0, 0], given[2] - 1250)


def test_a_fixed_backbone_keeps_its_weights_and_statistics():
    settings = {"backbone": {"num_layers": 18, "fix_weights": True}, "volume_net": {"volume_size": 8}}
    model = ContextPose({"model": settings}, LIMB_MEAN, LIMB_STD)
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    output = model(*views(2, 1))
    training_loss(output, torch.zeros(2, 17, 3), model.config.loss)[0].backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.backbone.state_dict().items())
    assert all(tensor.grad is None for tensor in model.backbone.parameters())
    assert model.process_features[0].weight.grad.any() and model.volume_net.training
    model.fix_backbone(False)
    training_loss(model(*views(2, 1)), torch.zeros(2, 17, 3), model.config.loss)[0].backward()
    assert model.backbone.conv1.weight.grad is not None
    assert not torch.equal(model.backbone.bn1.running_mean, before["bn1.running_mean"])


def test_without_context_attention_there_is_none_and_the_losses_do_without():
    model, given = build(use_context_attention=False), views(2, 1)
    output = model(*given)
    total, parts = training_loss(output, torch.zeros(2, 17, 3), model.config.loss)
    assert output.global_attention is None and "global_attention" not in parts and total.isfinite()
    assert not any("atten_conv" in name for name in model.state_dict())
    assert "volume_net.encoder_decoder.mid_res.res_branch.0.weight" in model.state_dict()


def test_double_precision_and_autocast_agree_with_single_precision():
    model, given = build(), views(2, 2)
    with torch.no_grad():
        expected = model(*given)
        with torch.autocast("cpu", torch.bfloat16):
            low = model(*given)
        images, projections, pelvis = given
        double = model.double()(images.double(), projections, pelvis.double())
    assert low.keypoints.dtype == torch.float32 and torch.equal(low.coordinates, expected.coordinates)
    assert (low.keypoints - expected.keypoints).abs().max() < 250  # of a cuboid of 2500 mm
    assert double.keypoints.dtype == torch.float64
    assert (double.keypoints - expected.keypoints).abs().max() < 0.5


def test_settings_come_as_a_config_as_dicts_or_as_objects():
    config = Config()
    config.model.backbone.num_layers, config.model.volume_net.volume_size = 18, 8
    objects = SimpleNamespace(model=SimpleNamespace(backbone=SimpleNamespace(num_layers=18),
                                                    volume_net={"volume_size": np.int64(8)}))
    with torch.device("meta"):
        assert ContextPose(config, LIMB_MEAN, LIMB_STD).config == ContextPose(objects, LIMB_MEAN, LIMB_STD).config
    with pytest.raises(UsageError, match="config: unknown key model.backbone.layers"):
        ContextPose({"model": {"backbone": {"layers": 18}}}, LIMB_MEAN, LIMB_STD)


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lambda state: {f"module.{name}": value for name, value in state.items()},
    lambda state: {"epoch": 1, "state_dict": {f"module.{name}": value for name, value in state.items()}},
], ids=["bare", "module", "state_dict"])
def test_released_weights_load_whatever_their_prefixes(wrap, tmp_path):
    state = build().state_dict()
    torch.save(wrap(state), tmp_path / "weights.pth")
    model = ContextPose({"model": {"backbone": {"num_layers": 18}}}, LIMB_MEAN, LIMB_STD)
    load_weights(model, tmp_path / "weights.pth")
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_the_configuration_says_which_weights_to_start_from(tmp_path):
    state = build().state_dict()
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "whole.pth")
    settings = {"backbone": {"num_layers": 18, "init_weights": True, "checkpoint": "whole.pth"}}
    model = ContextPose({"model": settings}, LIMB_MEAN, LIMB_STD)
    load_initial_weights(model, tmp_path)
    assert torch.equal(model.backbone.conv1.weight, state["backbone.conv1.weight"])
    assert not torch.equal(model.process_features[0].weight, state["process_features.0.weight"])
    model.config.model.init_weights = True
    with pytest.raises(UsageError, match="model.init_weights is true, but model.checkpoint names no file"):
        load_initial_weights(model, tmp_path)
    model.config.model.checkpoint = "whole.pth"
    load_initial_weights(model, tmp_path)
    assert torch.equal(model.process_features[0].weight, state["process_features.0.weight"])


def test_weights_that_are_hostile_or_of_another_network_are_refused(tmp_path):
    path, model = tmp_path / "weights.pth", build()
    torch.save({"module.backbone.conv1.weight": Hostile(tmp_path / "trap")}, path)
    with pytest.raises(CheckpointError, match="refused"):
        load_weights(model, path)
    assert not (tmp_path / "trap").exists()
    torch.save(model.state_dict(), path)
    with torch.device("meta"):
        deeper = ContextPose({"model": {"backbone": {"num_layers": 34}}}, LIMB_MEAN, LIMB_STD)
    with pytest.raises(CheckpointError, match="18 layers, not 34; it would fit with model.backbone.num_layers: 18"):
        load_weights(deeper, path)
    with pytest.raises(CheckpointError, match="it would fit with model.volume_net.use_context_attention: true"):
        load_weights(build(use_context_attention=False), path)


@pytest.mark.parametrize("change", [
    lambda images, projections, pelvis: (images[:, 0], projections, pelvis),
    lambda images, projections, pelvis: (images, projections[:, :1], pelvis),
    lambda images, projections, pelvis: (images, projections[..., :3], pelvis),
    lambda images, projections, pelvis: (images, projections, pelvis[:1]),
    lambda images, projections, pelvis: (images[:, :0], projections[:, :0], pelvis),
])
def test_input_of_a_wrong_shape_is_refused_with_all_shapes(change):
    with torch.device("meta"):
        model = ContextPose({"model": {"backbone": {"num_layers": 18}}}, LIMB_MEAN, LIMB_STD)
    with pytest.raises(ValueError, match=r"expected images \(batch, views, 3.*got"):
        model(*change(*views(2, 2)))
