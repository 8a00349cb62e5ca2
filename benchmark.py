"""Speed beside a plain implementation, as one table of ratios.

    python benchmark.py                              all rows, a few minutes each
    python benchmark.py --only train-fp32-b64        named rows
    python benchmark.py --quick --json speed.json    tiny sizes, to see that it runs

Plain and ours alternate in one process; a ratio is the median of the ratios of neighbours, so that a slow spell of the
machine falls on both. Both have the allocator of the process: the default, or what MALLOC_* variables and LD_PRELOAD
say. A second busy process slows two threads down out of proportion: set OMP_WAIT_POLICY=PASSIVE.
"""
import argparse
import functools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from common.augment import RandomMove
from common.cpu import has_bfloat16
from common.evaluation import write_json
from common.flags import OneLineParser, positive
from common.generators import ChunkedGenerator
from common.h36m_dataset import h36m_cameras
from common.keypoints import H36M_17, H36M_KEPT
from common.measuring import allocator, paired
from common.ranger import Ranger
from common.s_agcn import S_AGCN
from common.synthetic import make_motion, project_views
from common.utils import DependencyError, progress, run_script

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tests"))  # the plain implementations


def measure_network(args, train, bfloat16, batch):
    """GLA-GCN at 243 frames and 96 channels: inference, or forward, backward and Ranger step; ms a window.

    The plain side stays in float32 where ours is under bfloat16 autocast.
    """
    from plain_s_agcn import PlainS_AGCN

    widths, channels, batch = ([3, 3], 16, 4) if args.quick else ([3] * 5, 96, batch)
    torch.manual_seed(0)
    networks = [kind(17, 2, 17, widths, dropout=0.1, channels=channels).train(train) for kind in (PlainS_AGCN, S_AGCN)]
    networks[1].load_state_dict(networks[0].state_dict())
    x = torch.randn(batch, networks[1].receptive_field(), 17, 2)
    target = torch.randn(batch, 1, 17, 3)
    plain, ours = (
        _train_step(network, x, target, autocast) if train else _prediction(network, x, autocast)
        for network, autocast in zip(networks, (False, bfloat16), strict=True)
    )
    row = paired(plain, ours, args.repeats, per=batch)
    if bfloat16 and not has_bfloat16():
        row["note"] = "this CPU has no bfloat16 instructions: ours computes in float32"
    return row


def _prediction(network, x, autocast):
    def predict():
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            network(x)
    return predict


def _train_step(network, x, target, autocast):
    optimizer = Ranger(network.parameters(), lr=1e-3)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            predicted = network(x)
        loss = torch.linalg.vector_norm(predicted - target, dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def measure_onnx(args):
    """GLA-GCN for prediction: ONNX Runtime on the file of export_onnx.py, as the plain side, and ours in torch."""
    from common import checkpoint
    from common.onnx_export import choose_exporter, write_onnx
    from common.onnx_lifting import exportable

    exporter = choose_exporter()
    import onnxruntime
    widths, channels, batch = ([3, 3], 16, 4) if args.quick else ([3] * 5, 96, 16)
    torch.manual_seed(0)
    network = S_AGCN(17, 2, 17, widths, channels=channels).eval()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # nor wait at the cost of the other side
    with tempfile.TemporaryDirectory() as folder:
        weights, path = Path(folder) / "weights.bin", Path(folder) / "lifter.onnx"
        checkpoint.save(weights, network.state_dict())
        write_onnx(path, exportable(network, [weights]), exporter, say=lambda line: None)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    x = torch.randn(batch, network.receptive_field(), 17, 2)
    plain = functools.partial(session.run, None, {"keypoints_2d": x.numpy()})
    return paired(plain, _prediction(network, x, False), args.repeats, per=batch) | {
        "note": f"plain is onnxruntime {onnxruntime.__version__}"}


def measure_windows(args):
    """Shuffled, mirrored and moved batches of 512 windows of 243 frames, out of 5,000,000."""
    from plain_windows import plain_windows

    pad, batch, sequences, frames = (121, 512, 500, 5000) if not args.quick else (4, 16, 3, 50)
    rng = np.random.default_rng(0)
    poses_2d, poses_3d = ([rng.standard_normal((frames, 17, c), np.float32) for _ in range(sequences)] for c in (2, 3))
    left, right = H36M_17.joints_left(), H36M_17.joints_right()
    generator = ChunkedGenerator(batch, None, poses_3d, poses_2d, 1, pad=pad, augment=True, kps_left=left,
                                 kps_right=right, joints_left=left, joints_right=right, move=RandomMove())
    plain = plain_windows(poses_3d, poses_2d, pad, left, right, batch, np.random.RandomState(0))  # noqa: NPY002
    ours = generator.next_epoch()
    batches = 2 if args.quick else 8  # of each, a pair

    def draw(epoch):
        for _ in range(batches):
            next(epoch)

    row = paired(lambda: draw(plain), lambda: draw(ours), 1 if args.quick else args.repeats, batch * batches / 1000)
    return row | {"unit": "ms a 1000 windows", "note": f"{generator.num_frames():,} windows to draw from"}


def measure_memory(args):
    """Peak resident memory of a process that reads demo people and draws every window of an epoch."""
    frames = 10 if args.quick else 3349  # a sequence: 1,500,352 over all subjects, actions and cameras
    with tempfile.TemporaryDirectory() as folder:
        make = ["prepare_data_demo.py", "--output", folder, "--frames", str(frames)]
        subprocess.run([sys.executable, *make], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        done = subprocess.run([sys.executable, "-c", EPOCH, folder], check=True, cwd=ROOT, stdout=subprocess.PIPE,
                              text=True)
    windows, gigabytes = done.stdout.split()[-2:]
    return {"ours": float(gigabytes), "unit": "GB at most",
            "note": f"{int(windows):,} windows of 243 frames, mirrored ones among them"}


EPOCH = """
import sys
from common.measuring import peak_gigabytes
from common.arguments import lifting_parser, parse_lifting_args
from common.distributed import Processes
from common.lifting import build_model, load_data, make_generator
args = parse_lifting_args(lifting_parser(""), ["-d", "demo", "--data-dir", sys.argv[1], "-da"])
data = load_data(args)
args.subjects_train = data.dataset.subjects()
generator = make_generator(args, data, build_model(args, data), data.training_sequences(args), Processes("cpu"))
windows = sum(len(inputs) for _, _, inputs in generator.next_epoch())
print(windows, peak_gigabytes())
"""


def measure_render(args):
    """Pictures written a second at --viz-size 3: input, reconstruction and ground truth as mp4."""
    from common.visualization import render_animation

    frames = 10 if args.quick else 400
    camera = h36m_cameras("S9")[0]
    world = make_motion("S9", "Walking", frames)[:, H36M_KEPT]
    pixels = project_views(world, [camera])[0]
    speeds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 if args.quick else 3):
            start = time.perf_counter()
            written = render_animation(
                pixels, {"Reconstruction": world + 0.01, "Ground truth": world}, H36M_17, 50, 3000, camera["azimuth"],
                Path(folder) / "a.mp4", (camera["res_w"], camera["res_h"]), size=3, skeleton_2d=H36M_17)
            speeds.append(written / (time.perf_counter() - start))
    return {"ours": statistics.median(speeds), "unit": "frames a second"}


def measure_own_video(args):
    """What ten times as many frames add to the peak memory of run_video.py, and its speed from video to video."""
    from common.synthetic_detections import people_of, write_detectron
    from common.synthetic_video import detected, motion_at
    from common.video import open_writer

    def write(folder, frames):
        times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.05, frames))  # an uneven frame rate
        path = Path(folder) / f"{frames}.mp4"
        with open_writer(path, 30, 500, 501, times=times) as writer:
            for number in range(frames):
                writer.write(np.full((501, 500, 3), number % 256, np.uint8))
        write_detectron(f"{path}.npz", people_of([detected(motion_at(times), "coco") / 2]), (500, 501))
        return str(path)

    few = 5 if args.quick else 1200
    with tempfile.TemporaryDirectory() as folder:
        videos = write(folder, few), write(folder, 10 * few)
        done = subprocess.run([sys.executable, "-c", OWN_VIDEO, *videos], check=True, cwd=ROOT, text=True,
                              stdout=subprocess.PIPE)
    short, _, long, seconds = map(float, done.stdout.splitlines()[-1].split())
    return {"ours": long - short, "unit": "MB more at most", "note": f"{short:.0f} MB for {few} frames, {long:.0f} for "
            f"{10 * few}; {10 * few / seconds:.0f} frames a second"}


OWN_VIDEO = """
import runpy, sys, time
from common.measuring import peak_gigabytes
measured = []
for path in sys.argv[1:]:  # the short one first: the peak is that of the longest so far
    start = time.perf_counter()
    sys.argv = ["run_video.py", path, "--detections", path + ".npz", "--output", path + "_3d.mp4", "--viz-size", "2",
                "--evaluate", "checkpoint/demo/16_gt_9_supervised.bin"]
    runpy.run_path("run_video.py", run_name="__main__")
    measured += [1000 * peak_gigabytes(), time.perf_counter() - start]
print(*measured)
"""


def attention_pair(side):
    """ContextPose's context attention, (plain, ours) with the same weights, and a volume of side^3 voxels for them."""
    from plain_context_attention import PlainAttentionConv3D

    from common.contextpose.v2v import AttentionConv3D

    torch.manual_seed(0)
    context = torch.linspace(110, 450, 16), torch.linspace(11, 25, 16), 1500, 2500
    plain, ours = (kind(51, 51, *context) for kind in (PlainAttentionConv3D, AttentionConv3D))
    plain.load_state_dict(ours.state_dict())
    return (plain, ours), torch.randn(1, 51, side, side, side)


def attention_pass(layer, x, train):
    """Forward, or forward and backward down to the volume."""
    with torch.set_grad_enabled(train):
        features, attention = layer(x.requires_grad_(train))
        if train:
            (features.square().mean() + attention.square().mean()).backward()


def measure_attention(args, train):
    """Context attention at a quarter of the usual 64 voxels a side; the plain side keeps its d^3 x d^3 matrices."""
    layers, x = attention_pair(6 if args.quick else 16)
    plain, ours = (functools.partial(attention_pass, layer, x, train) for layer in layers)
    return paired(plain, ours, args.repeats) | {"unit": "ms a volume"}


def measure_attention_memory(args):
    """What forward and backward of the context attention add to the peak memory of a process of their own."""
    def megabytes(which, *sides):
        done = subprocess.run([sys.executable, "-c", ATTENTION, str(which), *map(str, sides)], check=True, cwd=ROOT,
                              stdout=subprocess.PIPE, text=True)
        return map(float, done.stdout.split())

    side = 6 if args.quick else 16
    (plain,), (ours, larger) = megabytes(0, side), megabytes(1, side, 2 * side)
    return {"plain": plain, "ours": ours, "unit": "MB at most", "ratio": plain / max(ours, 0.1),
            "note": f"ours at {2 * side} voxels a side: {larger:.0f} MB"}


ATTENTION = """
import sys
from benchmark import attention_pair, attention_pass
from common.measuring import peak_gigabytes
def run(side):
    layers, x = attention_pair(side)
    attention_pass(layers[int(sys.argv[1])], x, True)
run(2)  # what torch itself takes
before = peak_gigabytes()
for side in sys.argv[2:]:  # growing: the peak is that of the largest so far
    run(int(side))
    print(1000 * (peak_gigabytes() - before))
"""


# name: (function, its arguments)
ROWS = {"windows": (measure_windows, {}), "memory": (measure_memory, {}), "render": (measure_render, {}),
        "own-video": (measure_own_video, {}), "onnx": (measure_onnx, {}),
        "attention-forward": (measure_attention, {"train": False}),
        "attention-train": (measure_attention, {"train": True}),
        "attention-memory": (measure_attention_memory, {})} | {
    f"{'train' if train else 'infer'}-{'bf16' if bfloat16 else 'fp32'}-b{batch}":
        (measure_network, {"train": train, "bfloat16": bfloat16, "batch": batch})
    for train in (False, True) for bfloat16 in (False, True) for batch in (16, 64)
}


def get_args():
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(ROWS), default=list(ROWS),
                        help="rows to measure: " + ", ".join(ROWS))
    parser.add_argument("--json", metavar="FILE", help="also write the rows to this file")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that every row runs")
    parser.add_argument("--repeats", type=positive, default=5, metavar="N", help="pairs a row (default 5)")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), metavar="N",
                        help="threads of torch (default %(default)s)")
    return parser.parse_args()


def main(args):
    torch.set_num_threads(args.threads)
    if args.json:
        write_json(args.json, [])  # a place that cannot be written shows now, not after minutes
    rows = []
    print(f"{'row':18} {'plain':>10} {'ours':>10} {'ratio':>7}  unit, allocator on both sides, threads")
    for name in (bar := progress(args.only, desc="measuring", unit="row")):
        function, options = ROWS[name]
        try:
            measured = function(args, **options)
        except DependencyError as error:
            print(f"{name:18} skipped: {error}", flush=True)
            continue
        row = {"name": name, "allocator": allocator(), "threads": args.threads, **measured}
        rows.append(row)
        about = ", ".join([row["unit"], f"{row['allocator']} allocator", f"{row['threads']} threads"]
                          + [row[key] for key in ("note",) if key in row])
        plain, ratio = (f"{row[key]:.2f}" if key in row else "-" for key in ("plain", "ratio"))
        bar.clear()
        print(f"{name:18} {plain:>10} {row['ours']:10.2f} {ratio:>7}  {about}", flush=True)
    if args.json:
        write_json(args.json, rows)
        print(f"rows written to {args.json}")


if __name__ == "__main__":
    run_script(main, get_args)
