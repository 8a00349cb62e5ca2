import json
import pickle

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from golden.fill import fill_model, rand
from test_safe_io import Hostile

from common.contextpose.pose_resnet import PoseResNet, backbone_state, load_backbone
from common.utils import CheckpointError


@pytest.fixture(scope="module")
def weights():
    """The state dict of a backbone with 18 layers, away from initial values."""
    return fill_model(PoseResNet(18)).state_dict()


def images(count=1, side=64, seed=0):
    return torch.from_numpy(rand(seed, count, 3, side, side))


@pytest.mark.parametrize("layers", [18, 50])
def test_names_shapes_and_outputs_are_the_published_ones(layers):
    golden = np.load(GOLDEN / f"contextpose_backbone_r{layers}.npz")
    keys = json.loads((GOLDEN / f"contextpose_backbone_r{layers}.keys.json").read_text())
    model = PoseResNet(layers)
    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == keys
    fill_model(model).eval()
    with torch.no_grad():
        heatmaps, features = model(torch.from_numpy(rand(int(golden["input_seed"]), *golden["input_shape"])))
    assert np.abs(heatmaps.numpy() - golden["heatmaps"]).max() < 1e-4 * np.abs(golden["heatmaps"]).max()
    mean = features.mean((2, 3)).numpy()
    assert np.abs(mean - golden["features_mean"]).max() < 1e-4 * np.abs(golden["features_mean"]).max()


# Parameters of the trunks without their classifiers (1000 classes), as torchvision counts them.
@pytest.mark.parametrize("layers, trunk", [(18, 11_176_512), (34, 21_284_672), (50, 23_508_032), (101, 42_500_160),
                                           (152, 58_143_808)])
def test_every_depth_has_the_parameters_of_its_trunk(layers, trunk):
    with torch.device("meta"):
        model = PoseResNet(layers)
    after = ("deconv_layers.", "final_layer.")
    assert sum(tensor.numel() for name, tensor in model.named_parameters() if not name.startswith(after)) == trunk


def test_the_caffe_style_moves_the_stride_of_a_bottleneck_to_its_first_convolution():
    strides = {}
    for style in ("simple", "caffe"):
        model = PoseResNet(50, style=style)
        strides[style] = [model.layer2[0].conv1.stride[0], model.layer2[0].conv2.stride[0]]
        with torch.no_grad():
            assert model.eval()(images())[0].shape == (1, 17, 16, 16)
    assert strides == {"simple": [1, 2], "caffe": [2, 1]}


@pytest.mark.parametrize("layers, style, words", [(19, "simple", "18, 34, 50, 101, 152"), (18, "cafe", "'cafe'")])
def test_backbones_that_do_not_exist_are_refused(layers, style, words):
    with pytest.raises(ValueError, match=words):
        PoseResNet(layers, style=style)


def test_images_of_any_sides_give_maps_of_a_quarter():
    model = PoseResNet(18).eval()
    with torch.no_grad():
        heatmaps, features = model(torch.zeros(2, 3, 64, 96))
    assert heatmaps.shape == (2, 17, 16, 24) and features.shape == (2, 256, 16, 24)
    with pytest.raises(ValueError, match=r"\(batch, 3, height, width\).*got \(2, 1, 3, 64, 64\)"):
        model(torch.zeros(2, 1, 3, 64, 64))


def test_the_confidence_head_trusts_between_0_and_1_and_says_when_images_are_too_small():
    model = PoseResNet(18, confidences=True).eval()
    with torch.no_grad():
        _, _, confidences = model(images(side=320))
    assert confidences.shape == (1, 32) and 0 < confidences.min() and confidences.max() < 1
    with pytest.raises(ValueError, match="at least 320 pixels"):
        model(images())


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lambda state: {"state_dict": state},
    lambda state: {f"module.{name}": value for name, value in state.items()},
    lambda state: {f"module.backbone.{name}": value for name, value in state.items()}
    | {"module.volume_net.weight": torch.zeros(1)},
    lambda state: {"epoch": 3, "state_dict": {f"module.backbone.{name}": value for name, value in state.items()}},
    lambda state: {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")},
    lambda state: state | {"alg_confidences.head.0.weight": torch.zeros(2, 2)},
], ids=["bare", "state_dict", "module", "a whole network", "nested", "old", "another head"])
def test_released_checkpoints_load_whatever_their_prefixes(wrap, weights, tmp_path):
    torch.save(wrap(weights), tmp_path / "a.pth")
    model, notices = PoseResNet(18), []
    load_backbone(model, tmp_path / "a.pth", notices.append)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not notices


@pytest.mark.parametrize("joints", [16, 17, 19])
def test_a_final_layer_of_another_size_keeps_its_first_rows_and_says_so(joints, weights, tmp_path):
    other = fill_model(PoseResNet(18, joints)).state_dict()
    torch.save({f"module.{name}": value for name, value in other.items()}, tmp_path / "a.pth")
    model, notices = PoseResNet(18), []
    load_backbone(model, tmp_path / "a.pth", notices.append)
    kept, state = min(joints, 17), model.state_dict()
    assert torch.equal(state["final_layer.weight"][:kept], other["final_layer.weight"][:kept])
    assert torch.equal(state["final_layer.bias"][:kept], other["final_layer.bias"][:kept])
    new = state["final_layer.weight"][kept:]
    assert (new.abs() <= (6 / (17 + 256)) ** 0.5).all() and (new.numel() == 0 or new.std() > 0.01)
    assert not state["final_layer.bias"][kept:].any()
    assert torch.equal(state["conv1.weight"], weights["conv1.weight"])
    assert len(notices) == (joints != 17) and all(f"{joints} joints, not 17" in notice for notice in notices)


def test_imagenet_weights_give_the_trunk_and_say_what_is_left(weights, tmp_path):
    trunk = {name: value for name, value in weights.items() if not name.startswith(("deconv", "final"))}
    torch.save(trunk | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, tmp_path / "a.pth")
    model, notices = PoseResNet(18), []
    load_backbone(model, tmp_path / "a.pth", notices.append)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in trunk.items())
    assert len(notices) == 1 and "ImageNet" in notices[0]


def test_a_confidence_head_that_the_file_lacks_starts_anew_with_a_notice(weights, tmp_path):
    torch.save(weights, tmp_path / "a.pth")
    model, notices = PoseResNet(18, confidences=True), []
    load_backbone(model, tmp_path / "a.pth", notices.append)
    assert torch.equal(model.final_layer.weight, weights["final_layer.weight"])
    assert len(notices) == 1 and "confidence head" in notices[0]


def test_checkpoints_that_are_hostile_of_another_depth_or_no_network_are_refused(weights, tmp_path):
    path = tmp_path / "a.pth"
    for write in (lambda content: torch.save(content, path), lambda content: path.write_bytes(pickle.dumps(content))):
        write({"state_dict": Hostile(tmp_path / "trap")})
        with pytest.raises(CheckpointError, match="a.pth"):
            load_backbone(PoseResNet(18), path)
        assert not (tmp_path / "trap").exists()
    torch.save(weights, path)
    with pytest.raises(CheckpointError, match="has 18 layers, not 34.*num_layers: 18"):
        load_backbone(PoseResNet(34), path)
    torch.save({name: value for name, value in weights.items() if name != "conv1.weight"}, path)
    with pytest.raises(CheckpointError, match="weights of another network: conv1.weight is missing"):
        load_backbone(PoseResNet(18), path)
    torch.save(weights | {"final_layer.weight": torch.zeros(17, 128, 1, 1)}, path)
    with pytest.raises(CheckpointError, match=r"final_layer.weight is \[17, 128, 1, 1\]"):
        load_backbone(PoseResNet(18), path)
    with pytest.raises(CheckpointError, match="no network weights"):
        backbone_state({"epoch": 1}, path)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_backbone(PoseResNet(18), tmp_path / "b.pth")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_backbone_computes_in_the_dtype_it_is_cast_to(dtype):
    model = fill_model(PoseResNet(18)).eval()
    x = images()
    with torch.no_grad():
        expected = model(x)[0]
        result = model.to(dtype)(x.to(dtype))[0]
    assert result.dtype == dtype
    assert (result - expected).abs().max() < (1e-5 if dtype == torch.float64 else 0.1) * expected.abs().max()
