"""Layouts of 2D joints: the maps between them, networks that take them, and demo people who have them."""
import numpy as np
import pytest
import torch

from common.keypoints import H36M_17, H36M_32, H36M_KEPT, LAYOUT_MAPS, LAYOUTS, identify_layout, layout_matrix
from common.s_agcn import S_AGCN
from common.synthetic import make_motion
from common.synthetic_layouts import detector_joints


@pytest.fixture(scope="module")
def motion():
    return make_motion("S9", "Walking", 40)


@pytest.mark.parametrize("source, target", list(LAYOUT_MAPS))
def test_maps_keep_names_sides_and_mirrors(source, target):
    first, second, groups = LAYOUTS[source], LAYOUTS[target], LAYOUT_MAPS[source, target]
    names = first.names()
    assert len(groups) == second.num_joints()
    for name, group in zip(second.names(), groups, strict=True):
        if name.startswith(("left_", "right_")):
            assert [names[joint] for joint in group] == [name]
    mirrored = [sorted(first.mirror_order()[group]) for group in groups]
    assert mirrored == [sorted(groups[joint]) for joint in second.mirror_order()]


@pytest.mark.parametrize("layout", ["coco", "halpe26", "body25"])
def test_demo_people_have_the_joints_of_detectors(motion, layout):
    joints, skeleton = detector_joints(motion, layout), LAYOUTS[layout]
    assert joints.shape == (40, skeleton.num_joints(), 3) and np.isfinite(joints).all()
    mapped = layout_matrix(LAYOUT_MAPS[layout, "h36m"], joints.shape[1]) @ joints
    away = np.linalg.norm(mapped - motion[:, H36M_KEPT], axis=-1).mean(axis=0)
    limbs = [joint for joint, name in enumerate(H36M_17.names()) if name.startswith(("left_", "right_"))]
    assert away[limbs].max() < 1e-6 and away.max() < 0.16
    # Faces look where the person walks, and what is left is on the left.
    names, left = skeleton.names(), motion[:, 17] - motion[:, 25]
    for part in ("eye", "ear", "shoulder", "hip"):
        across = joints[:, names.index(f"left_{part}")] - joints[:, names.index(f"right_{part}")]
        assert ((across * left).sum(-1) > 0).all()
    ears = [names.index("left_ear"), names.index("right_ear")]
    nose = joints[:, names.index("nose")] - joints[:, ears].mean(1)
    assert (nose @ [0, 0, 1] < 0.1).all() and H36M_32.names()[17] == "left_shoulder"
    forward = np.cross(left, [0, 0, 1])
    assert ((nose * forward).sum(-1) > 0).all()


@pytest.mark.parametrize("layout", ["coco", "halpe26", "body25", "mpii"])
def test_a_network_with_a_map_is_the_network_on_mapped_joints(layout):
    torch.manual_seed(0)
    joints = LAYOUTS[layout].num_joints()
    plain = S_AGCN(17, 2, 17, [3], channels=4).eval()
    mapping = S_AGCN(joints, 2, 17, [3], channels=4, input_layout=layout).eval()
    mapping.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, joints, 2)
    with torch.no_grad():
        expected = plain(torch.from_numpy(layout_matrix(LAYOUT_MAPS[layout, "h36m"], joints)) @ x)
        torch.testing.assert_close(mapping(x), expected)
        mapping.fast = False
        torch.testing.assert_close(mapping(x), expected, atol=1e-5, rtol=1e-5)


def test_layouts_are_told_by_name_or_by_their_sides():
    for name, skeleton in LAYOUTS.items():
        sides = skeleton.joints_left(), skeleton.joints_right()
        assert identify_layout(name, skeleton.num_joints(), *sides) == name
        assert identify_layout("", skeleton.num_joints(), *sides) == name
    assert identify_layout("", 17, [1, 2], [3, 4]) is None
    assert identify_layout("coco", 16, [1], [2]) is None
