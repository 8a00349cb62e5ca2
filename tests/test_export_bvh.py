"""BVH: a reader of another origin gives the poses back, in a rest pose that stands upright."""
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from common import export_bvh, keypoints
from common.export import Prediction
from common.export_bvh import euler_angles, pose_nodes, shortest_turn, write_bvh
from common.skeleton import Skeleton

bvhio = pytest.importorskip("bvhio")
SKELETONS = ["H36M_17", "H36M_32", "HUMANEVA_15", "HUMANEVA_20", "COCO_17", "MPII_16", "HALPE_26", "BODY_25",
             "MPI_INF_3DHP_17", "CONTEXTPOSE_17"]
NAMELESS = Skeleton([2, 0, -1, 2, 3, 3], [], [])


def moving(skeleton, frames=5, **more):
    """Joints that wander anywhere: bones of all directions and of lengths that change."""
    rng = np.random.default_rng(0)
    steps = rng.normal(0, 0.1, (frames, skeleton.num_joints(), 3))
    return Prediction(rng.normal(0, 0.4, steps.shape[1:]) + np.cumsum(steps, axis=0), skeleton, 50, **more)


def read(path, skeleton, frames):
    """The joints (frames, J, 3) as bvhio has them, z up again."""
    root = bvhio.readAsHierarchy(str(path))
    found = {joint.Name: joint for joint, _, _ in root.layout()}
    poses = []
    for frame in range(frames):
        root.loadPose(frame)
        poses.append([tuple(found[name].PositionWorld) for name in skeleton.names()])
    x, y, z = np.moveaxis(np.array(poses), -1, 0)
    return np.stack([x, -z, y], axis=-1)


def with_constant_lengths(joints, skeleton):
    """The constant-bone-length fit, joint by joint and frame by frame."""
    joints = joints.astype(np.float64)
    fitted = joints.copy()

    def fit(joint):
        for child, parent in skeleton.bones():
            if parent == joint:
                bones = joints[:, child] - joints[:, parent]
                length = np.median([np.linalg.norm(bone) for bone in bones])
                for frame, bone in enumerate(bones):
                    fitted[frame, child] = fitted[frame, parent] + length * bone / np.linalg.norm(bone)
                fit(child)

    fit(skeleton.root())
    return fitted


@pytest.mark.parametrize("name", [*SKELETONS, "NAMELESS"])
def test_bvhio_reads_the_joints_of_the_constant_length_fit(name, tmp_path):
    skeleton = NAMELESS if name == "NAMELESS" else getattr(keypoints, name)
    prediction = moving(skeleton)
    notices = write_bvh(tmp_path / "a.bvh", prediction)
    expected = with_constant_lengths(prediction.joints, skeleton)
    np.testing.assert_allclose(read(tmp_path / "a.bvh", skeleton, len(prediction)), expected, atol=1e-5)
    error_mm = 1000 * np.linalg.norm(expected - prediction.joints, axis=-1)
    said = next(line for line in notices if "on average" in line)
    for figure in (error_mm.mean(), np.quantile(error_mm, 0.95), error_mm.max()):
        assert f"{figure:.1f} mm" in said


def test_bones_of_constant_length_come_back_as_predicted_in_centimetres(tmp_path):
    skeleton = keypoints.H36M_17
    joints = with_constant_lengths(moving(skeleton).joints, skeleton)
    notices = write_bvh(tmp_path / "a.bvh", Prediction(joints, skeleton, 50), unit="cm")
    np.testing.assert_allclose(read(tmp_path / "a.bvh", skeleton, 5), 100 * joints, atol=1e-3)
    assert any("by 0.0 mm on average" in line for line in notices) and "unit cm" in notices[0]


def test_the_worst_bone_is_named_with_its_length_and_spread(tmp_path):
    joints = np.zeros((4, 3, 3))
    joints[:, 1, 0], joints[:, 2, 0] = 0.4, [0.7, 0.8, 0.8, 0.9]
    lines = write_bvh(tmp_path / "a.bvh", Prediction(joints, Skeleton([-1, 0, 1], [], [], ["a", "b", "c"]), 50))
    assert f"b to c, has 400 mm with a standard deviation of {np.std([300, 400, 400, 500]):.1f} mm" in lines[-1]


@pytest.mark.parametrize("name", SKELETONS)
def test_the_rest_pose_faces_z_with_y_up_and_the_left_side_at_x(name, tmp_path):
    skeleton = getattr(keypoints, name)
    write_bvh(tmp_path / "a.bvh", moving(skeleton))
    root = bvhio.readAsHierarchy(str(tmp_path / "a.bvh"))
    root.loadRestPose(recursive=True)
    at = {joint.Name: np.array(joint.PositionWorld) for joint, _, _ in root.layout()}
    for side, sign in (("left", 1), ("right", -1)):
        shoulder, elbow, wrist, hip, knee, ankle = (
            at[f"{side}_{joint}"] for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
        for outer, inner in ((wrist, elbow), (elbow, shoulder)):
            np.testing.assert_allclose(outer - inner, [sign * np.linalg.norm(outer - inner), 0, 0], atol=1e-5)
        for lower, upper in ((ankle, knee), (knee, hip)):
            np.testing.assert_allclose(lower - upper, [0, -np.linalg.norm(lower - upper), 0], atol=1e-5)
        for toe in {f"{side}_foot", f"{side}_toe", f"{side}_big_toe"} & at.keys():
            assert at[toe][2] > ankle[2]


@pytest.mark.parametrize("name", SKELETONS)
def test_all_that_hangs_on_a_joint_is_at_one_place_to_which_blender_draws_its_bone(name, tmp_path):
    write_bvh(tmp_path / "a.bvh", moving(getattr(keypoints, name)))
    root = bvhio.readAsHierarchy(str(tmp_path / "a.bvh"))
    root.loadRestPose(recursive=True)
    for joint, _, _ in root.layout():
        if joint.Children:
            places = np.array([tuple(child.PositionWorld) for child in joint.Children])
            assert np.ptp(places, axis=0).max() < 1e-5, joint.Name


def test_joints_at_one_place_do_no_harm(tmp_path):
    skeleton = keypoints.H36M_32
    prediction = moving(skeleton)
    names = skeleton.names()
    for zero, at in (("spine_base", "hip"), ("left_collar", "thorax"), ("left_thumb_base", "left_wrist")):
        prediction.joints[:, names.index(zero)] = prediction.joints[:, names.index(at)]
    prediction.joints[2, names.index("left_knee")] = prediction.joints[2, names.index("left_hip")]
    write_bvh(tmp_path / "a.bvh", prediction)
    found = read(tmp_path / "a.bvh", skeleton, 5)
    others = [0, 1, 3, 4]
    np.testing.assert_allclose(found[:, names.index("spine_base")], found[:, 0], atol=1e-5)
    expected = with_constant_lengths(prediction.joints[:, [0, 1, 2, 3]], Skeleton([-1, 0, 1, 2], [], []))
    np.testing.assert_allclose(found[others, :4], expected[others], atol=1e-5)
    knee = found[:, names.index("left_knee")] - found[:, names.index("left_hip")]
    np.testing.assert_allclose(knee[2], knee[1], atol=1e-5)  # without a direction of its own it keeps the last
    # One point in a single frame: no bone has any direction.
    write_bvh(tmp_path / "point.bvh", Prediction(np.ones((1, 32, 3)), skeleton, 50))
    np.testing.assert_allclose(read(tmp_path / "point.bvh", skeleton, 1), 1, atol=1e-5)


def test_the_shortest_turn_is_exact_from_any_direction_to_any_other():
    rng = np.random.default_rng(1)
    start = rng.normal(size=(6, 3))
    start /= np.linalg.norm(start, axis=-1, keepdims=True)
    end = np.roll(start, 1, axis=0)
    end[0], end[1], end[2] = -start[0], start[1], -start[2] + [1e-9, 0, 0]
    np.testing.assert_allclose(shortest_turn(start, end).apply(start), end, atol=1e-8)
    np.testing.assert_allclose(shortest_turn(start, end).magnitude(), np.arccos((start * end).sum(-1).clip(-1, 1)),
                               atol=1e-6)


def test_the_twist_about_the_main_bone_is_that_of_least_squares():
    skeleton = keypoints.H36M_17
    joints = moving(skeleton, frames=2).joints.astype(np.float64)
    lengths, directions = export_bvh.measure(joints, skeleton.parents())
    thorax = next(node for node in pose_nodes(skeleton, lengths, directions) if node.name == "thorax")
    bones = export_bvh.Bones(skeleton, lengths, directions)

    def misses(turns):
        return sum(lengths[arm] ** 2 * ((turns.apply(bones.rest[arm]) - directions[:, arm]) ** 2).sum(-1)
                   for arm in (11, 14))  # the shoulders, beside the neck (9)

    np.testing.assert_allclose(thorax.turns.apply(bones.rest[9]), directions[:, 9], atol=1e-9)
    for degrees in (-90, -1, 1, 90, 180):
        turned = Rotation.from_rotvec(np.deg2rad(degrees) * directions[:, 9]) * thorax.turns
        assert (misses(thorax.turns) < misses(turned)).all()


def test_angles_of_turns_in_time_do_not_jump_and_give_the_rotations_back():
    time = np.linspace(0, 1, 200)
    spin = np.stack([0 * time, 40 * np.sin(9 * time), 1500 * time], axis=-1)  # about Z, X and Y, in degrees
    tumble = np.stack([5 * time, 700 * time, 3 * time], axis=-1)  # through the poles
    at_pole = np.stack([30 + 0 * time, np.where(time < 0.5, 89, 90), 20 * time], axis=-1)
    for angles in (spin, tumble, at_pole):
        matrices = Rotation.from_euler("ZXY", angles, degrees=True).as_matrix()
        found = euler_angles(matrices)
        np.testing.assert_allclose(Rotation.from_euler("ZXY", found, degrees=True).as_matrix(), matrices, atol=1e-9)
        np.testing.assert_allclose(np.diff(found, axis=0), np.diff(angles, axis=0), atol=1e-5)


def test_uneven_frames_are_brought_to_a_steady_rate(tmp_path):
    prediction = moving(keypoints.H36M_17, frames=4, times=np.array([3, 3.1, 3.9, 4.5]))
    assert "brought to 2 a second" in write_bvh(tmp_path / "a.bvh", prediction)[0]
    text = (tmp_path / "a.bvh").read_text()
    assert "Frames: 4\nFrame Time: 0.500000000\n" in text
    root = np.array([row.split()[:3] for row in text.splitlines()[-4:]], dtype=float)
    hip = prediction.joints[:, 0]
    halfway = hip[1] + (hip[2] - hip[1]) * (3.5 - 3.1) / 0.8
    np.testing.assert_allclose(root[1], [halfway[0], halfway[2], -halfway[1]], atol=1e-5)


def test_poses_of_a_camera_stand_upright(tmp_path):
    camera = moving(keypoints.H36M_17, frame="camera")
    assert any("taken as level" in line for line in write_bvh(tmp_path / "a.bvh", camera))
    root = np.array((tmp_path / "a.bvh").read_text().splitlines()[-1].split()[:3], dtype=float)
    np.testing.assert_allclose(root, camera.joints[-1, 0] * [1, -1, -1], atol=1e-6)


def test_names_with_white_space_become_words_of_their_own(tmp_path):
    skeleton = Skeleton([-1, 0, 0], [], [], ["the hip", "the_hip", "the hip_to_the hip"])
    write_bvh(tmp_path / "a.bvh", moving(skeleton))
    names = [joint.Name for joint, _, _ in bvhio.readAsHierarchy(str(tmp_path / "a.bvh")).layout()]
    assert len(set(names)) == len(names) and {"the_hip", "the_hip_", "the_hip_to_the_hip"} <= set(names)
