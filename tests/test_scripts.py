"""Every lifting script as a process: the words it prints, its exit status, the flags it takes and refuses."""
import json

import numpy as np
import pytest
from conftest import GOLDEN, TINY, made_once, run_script

RELEASED = GOLDEN / "32_gt_27_supervised_epoch_5.bin"


@pytest.fixture(scope="module")
def demo_checkpoint(demo_data, tmp_path_factory):
    def make(folder):
        done = run_script("run_s-agcn.py", "-d", "demo", "--data-dir", demo_data, "-str", "S1", "-ste", "S9", *TINY,
                          "-e", 1, "--debug", "-c", folder)
        assert done.status == 0, done.err

    return made_once(tmp_path_factory, "demo_checkpoint", make) / "4_gt_9_supervised.bin"


def humaneva(data, *more):
    return ["run_s-agcn.py", "-da", "-d", "humaneva15", "--data-dir", data, "-ste", "Validate/S1", "-a", "Walk,Jog,Box",
            "-arc", "3,3,3", "-ch", "32", "--evaluate", RELEASED, *more]


def test_evaluation_prints_the_published_lines(humaneva_data, tmp_path):
    done = run_script(*humaneva(humaneva_data, "-tta", "--by-subject", "--json", tmp_path / "a.json"))
    assert done.status == 0, done.err
    table = json.loads((tmp_path / "a.json").read_text())["Validate/S1"]
    assert list(table) == ["Walking", "Jog", "Box", "average"]
    lines = done.out.splitlines()
    block = lines.index("----Walking----")
    assert lines[block - 1] == "Evaluating on subject Validate/S1"
    assert lines[block + 1 : block + 7] == [
        "Test time augmentation: True",
        f"Protocol #1 Error (MPJPE): {table['Walking']['mpjpe']} mm",
        f"Protocol #2 Error (P-MPJPE): {table['Walking']['p_mpjpe']} mm",
        f"Protocol #3 Error (N-MPJPE): {table['Walking']['n_mpjpe']} mm",
        f"Velocity Error (MPJVE): {table['Walking']['mpjve']} mm",
        "----------",
    ]
    average = table["average"]
    assert f"Protocol #1   (MPJPE) action-wise average: {round(average['mpjpe'], 1)} mm" in lines
    assert f"Protocol #2 (P-MPJPE) action-wise average: {round(average['p_mpjpe'], 1)} mm" in lines
    assert f"Protocol #3 (N-MPJPE) action-wise average: {round(average['n_mpjpe'], 1)} mm" in lines
    assert f"Velocity      (MPJVE) action-wise average: {round(average['mpjve'], 1)} mm" in lines


@pytest.mark.parametrize("flags,case", [
    ([], "ste=Validate/S1 tta="), (["-tta"], "ste=Validate/S1 tta=-tta"),
    (["-tta", "--by-subject", "--last-chunk-only"], "by-subject last chunk tta"),
])
def test_a_released_checkpoint_scores_what_the_published_code_prints(real_data, tmp_path, flags, case):
    done = run_script(*humaneva(real_data / "humaneva", *flags, "--json", tmp_path / "a.json"))
    assert done.status == 0, done.err
    ours = json.loads((tmp_path / "a.json").read_text())
    golden = json.loads((GOLDEN / "humaneva_released_format.json").read_text())[case]
    if "Validate/S1" in golden:
        ours, golden = ours["Validate/S1"], golden["Validate/S1"]
    for action, errors in golden.items():
        for metric, value in errors.items():
            tolerance = 0.05 if action == "average" else 0.01  # the published averages have one decimal
            assert ours[action][metric] == pytest.approx(value, abs=tolerance + 1e-9), (action, metric)


def test_figures_do_not_depend_on_the_batch_size(humaneva_data, tmp_path):
    for size in ("1", "7", "4096"):
        done = run_script(*humaneva(humaneva_data, "-a", "Box,Jog", "-b", size, "--json", tmp_path / f"{size}.json"))
        assert done.status == 0, done.err
    assert len({(tmp_path / f"{size}.json").read_text() for size in ("1", "7", "4096")}) == 1


def test_the_coco_script_takes_its_defaults_and_coco_17_detections(humaneva_data, tmp_path):
    rng = np.random.default_rng(0)
    symmetry = [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]]
    views = {s: {a: [rng.uniform(0, 480, (22, 17, 2)) for _ in range(3)]
                 for a in ("Walking 1 chunk0", "Walking 1 chunk2", "Box 1 chunk0", "Jog 1 chunk1")}
             for s in ("Train/S1", "Train/S2", "Train/S3", "Validate/S1", "Unlabeled/S4")}
    np.savez(tmp_path / "data_2d_humaneva15_detectron_pt_coco.npz", positions_2d=views,
             metadata={"layout_name": "coco", "num_joints": 17, "keypoints_symmetry": symmetry})
    (tmp_path / "data_3d_humaneva15.npz").write_bytes((humaneva_data / "data_3d_humaneva15.npz").read_bytes())
    shared = ["--data-dir", tmp_path, "-c", tmp_path / "c", "-ste", "Validate/S1"]
    trained = run_script("run_s-agcn_HE_13.py", *shared, "-da", "-ch", 4, "-e", 1, "--debug", "--no-tensorboard")
    assert trained.status == 0, trained.err
    assert "Receptive field: 27" in trained.out and "Evaluating on subject Validate/S1" in trained.out
    done = run_script("run_s-agcn_HE_13.py", *shared, "-tta", "-ch", 4, "--evaluate", "--no-by-subject")
    assert done.status == 0, done.err
    assert "4_detectron_pt_coco_27_supervised.bin" in done.out and "on subject" not in done.out
    run_script("run_s-agcn.py", "-d", "humaneva15", "-k", "detectron_pt_coco", *shared, "--evaluate").assert_fails(
        2, "run_s-agcn_HE_13.py takes COCO-17")


def test_20_humaneva_joints_and_16_mpii_joints_train(tmp_path):
    rng = np.random.default_rng(0)
    for dataset, joints, in_joints, subjects, cameras in (
            ("humaneva20", 20, 20, ("Train/S1", "Validate/S1"), 3), ("h36m", 32, 16, ("S1", "S9"), 4)):
        np.savez(tmp_path / f"data_3d_{dataset}.npz", positions_3d={
            s: {"Walking 1": rng.normal(0, 0.4, (30, joints, 3)).astype(np.float32)} for s in subjects})
        np.savez(tmp_path / f"data_2d_{dataset}_some.npz", positions_2d={
            s: {"Walking 1": [rng.uniform(0, 480, (30, in_joints, 2)) for _ in range(cameras)]} for s in subjects},
            metadata={"num_joints": in_joints, "keypoints_symmetry": [[3, 4], [2, 1]]})
        done = run_script("run_s-agcn.py", "-d", dataset, "-k", "some", "--data-dir", tmp_path, "-c", tmp_path / "c",
                          "-str", subjects[0], "-ste", subjects[1], *TINY, "-e", 1, "--debug")
        assert done.status == 0, done.err
        assert ("2D joints: mpii, mapped to h36m" in done.out) == (in_joints == 16)


@pytest.mark.parametrize("flags,words", [
    (["--dense"], ["--dense does not apply"]),
    (["--linear-projection"], ["--linear-projection does not apply"]),
    (["--no-bone-length"], ["--no-bone-length does not apply"]),
    (["--no-proj"], ["--no-proj does not apply"]),
    (["--resume", "a", "--evaluate", "b"], ["--resume and --evaluate"]),
    (["-lrd", "0.9"], ["--lr-schedule exponential"]),
    (["--json", "."], ["is a folder"]),
    (["-d", "nothing"], ["nothing", "h36m", "demo"]),
    (["-arc", "3,4"], ["3,4", "odd"]),
    (["-arc", "x"], ["odd numbers"]),
    (["-b", "0"], ["0"]),
    (["-drop", "1"], ["[0, 1)"]),
    (["--subset", "1.5"], ["(0, 1]"]),
    (["--viz-output", "a.mp4"], ["--viz-output does not apply without --render"]),
    (["--viz-size", "3"], ["--viz-size does not apply without --render"]),
    (["--smooth", "savgol"], ["--smooth does not apply without --render"]),
    (["--render"], ["--evaluate"]),
    (["--render", "--evaluate", "a"], ["--viz-subject"]),
    (["-d", "custom"], ["no ground truth"]),
    (["--device", "cuda"], ["--device cuda"]),
    (["--nonsense"], ["--nonsense"]),
    (["-str", "S1", "-a", "Nope"], ["matches no action", "Walking"]),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_does_not_apply_is_refused_in_one_line_with_status_2(demo_data, flags, words):
    import torch

    if "cuda" in flags and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    defaults = [] if "-d" in flags else ["-d", "demo"]
    run_script("run_s-agcn.py", "--data-dir", demo_data, *defaults, *flags).assert_fails(2, *words)


def test_flags_take_underscores_too(demo_data, demo_checkpoint):
    done = run_script("run_s-agcn.py", "--data_dir", demo_data, "-d", "demo", "-arc", "3,3", "-ch", 4,
                      "--batch_size", 9, "--subjects_test", "S9", "--evaluate", demo_checkpoint)
    assert done.status == 0, done.err
    assert "without effect on an evaluation: --batch-size" in done.out


def test_optimised_and_ordinary_operations_give_the_same_figures(demo_data, demo_checkpoint, tmp_path):
    for name, flags in (("fast", []), ("ordinary", ["--disable-optimizations"])):
        done = run_script("run_s-agcn.py", "--data-dir", demo_data, "-d", "demo", "-arc", "3,3", "-ch", 4, "-ste", "S9",
                          "-tta", "--evaluate", demo_checkpoint, "--json", tmp_path / f"{name}.json", *flags)
        assert done.status == 0, done.err
    fast, ordinary = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("fast", "ordinary"))
    for action in fast:
        for metric in fast[action]:
            assert fast[action][metric] == pytest.approx(ordinary[action][metric], abs=1e-3)


def render(demo_data, demo_checkpoint, *more):
    return run_script("run_s-agcn.py", "-d", "demo", "--data-dir", demo_data, "-arc", "3,3", "-ch", 4, "--evaluate",
                      demo_checkpoint, "--render", "--viz-subject", "S9", "--viz-action", "Walking 1", *more)


def test_rendering_writes_every_frame_and_the_coordinates(demo_data, demo_checkpoint, tmp_path):
    from common.video import probe

    done = render(demo_data, demo_checkpoint, "-tta", "--viz-size", 2, "--viz-camera", 1, "--viz-bitrate", 500,
                  "--viz-output", tmp_path / "a.mp4", "--viz-export", tmp_path / "a.npz")
    assert done.status == 0, done.err
    video = probe(tmp_path / "a.mp4")
    assert (video.frames, video.fps, video.height) == (40, 50, 200)
    export = np.load(tmp_path / "a.npz")
    assert export["joints"].shape == (40, 17, 3) and str(export["units"]) == "m" and export["fps"] == 50
    assert export["joint_names"][0] == "hip" and export["parents"][0] == -1
    assert not list(tmp_path.glob("*.results.npz"))  # all is in the file that was asked for


def test_the_input_video_skip_limit_downsample_and_gif(demo_data, demo_checkpoint, tmp_path):
    from PIL import Image

    assert render(demo_data, demo_checkpoint, "--viz-size", 1, "--viz-output", tmp_path / "in.mp4").status == 0
    done = render(demo_data, demo_checkpoint, "--viz-video", tmp_path / "in.mp4", "--viz-skip", 3, "--viz-limit", 6,
                  "--viz-downsample", 2, "--viz-size", 1, "--viz-no-ground-truth", "--viz-output", tmp_path / "a.gif")
    assert done.status == 0, done.err
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 6 and gif.info["duration"] == 40  # 25 frames a second
        assert gif.width == 2 * gif.height  # input and reconstruction only
    assert len(np.load(tmp_path / "a.results.npz")["joints"]) == 40


@pytest.mark.parametrize("flags,status,words", [
    (["--viz-output", "a.avi"], 2, ["a.avi", ".mp4"]),
    (["--viz-export", "a.npy"], 2, ["a.npy", ".npz"]),
    (["--viz-output", "a.mp4", "--viz-video", "none.mp4"], 3, ["none.mp4"]),
    (["--viz-output", "a.mp4", "--viz-camera", "4"], 2, ["--viz-camera 4"]),
    (["--viz-output", "a.mp4", "--viz-subject", "S2"], 2, ["S2", "S9"]),
    (["--viz-output", "a.mp4", "--viz-action", "Flying"], 2, ["Flying", "Walking 1"]),
    (["--viz-output", "a.mp4", "--viz-limit", "0"], 2, ["--viz-limit"]),
    ([], 2, ["--viz-output"]),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_cannot_be_rendered_is_refused_in_one_line(demo_data, demo_checkpoint, flags, status, words):
    render(demo_data, demo_checkpoint, *flags).assert_fails(status, *words)


def test_a_users_own_video_is_rendered_without_ground_truth(demo_data, demo_checkpoint, tmp_path):
    from common.safe_io import load_npz

    keypoints = load_npz(demo_data / "data_2d_demo_gt.npz")
    metadata = keypoints["metadata"] | {"video_metadata": {"me.mp4": {"w": 1000, "h": 1000}}}
    np.savez(tmp_path / "data_2d_custom_mine.npz", metadata=metadata,
             positions_2d={"me.mp4": {"custom": [keypoints["positions_2d"]["S9"]["Walking"][0]]}})
    shared = ["run_s-agcn.py", "-d", "custom", "-k", "mine", "--data-dir", tmp_path, "-arc", "3,3", "-ch", 4,
              "--evaluate", demo_checkpoint, "--render", "--viz-action", "custom", "--viz-export", tmp_path / "a.npz"]
    done = run_script(*shared, "--viz-subject", "me.mp4")
    assert done.status == 0, done.err
    world = np.load(tmp_path / "a.npz")["keypoints_3d_world"]
    assert world.shape == (40, 17, 3) and world[..., 2].min() == 0
    run_script(*shared, "--viz-subject", "you.mp4").assert_fails(2, "you.mp4", "me.mp4")


def test_the_benchmark_runs_every_kind_of_row(tmp_path):
    done = run_script("benchmark.py", "--quick", "--repeats", 1, "--json", tmp_path / "a.json", "--only", "windows",
                      "memory", "render", "infer-fp32-b16", "train-bf16-b16", "attention-train", "attention-memory",
                      "own-video", "onnx")
    assert done.status == 0, done.err
    rows = {row["name"]: row for row in json.loads((tmp_path / "a.json").read_text())}
    assert all(row["ours"] > 0 for row in rows.values()) and rows["windows"]["ratio"] > 0
