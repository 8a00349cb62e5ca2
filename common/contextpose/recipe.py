"""What run_contextpose.py does: train, evaluate weights, predict own images."""
import contextlib
from pathlib import Path

from common import checkpoint
from common.contextpose.config import differences, to_dict, without_effect
from common.contextpose.dataset import Human36MViews, limb_lengths
from common.contextpose.epoch_log import CHANGE_NO_RESULT
from common.contextpose.evaluation import write_results
from common.contextpose.inference import evaluate
from common.contextpose.loading import Loader
from common.contextpose.model import ContextPose, load_initial_weights, load_weights
from common.contextpose.mpi3dhp_images import NOT_FOR_TRAINING, Mpi3dhpTestViews
from common.contextpose.own_images import find_images, image_sizes, parse_intrinsics, predict_images, read_boxes
from common.contextpose.runs import LIMBS, WEIGHTS, RunFolder, find_run, new_run, required_run, run_of
from common.contextpose.sync_bn import synchronised
from common.contextpose.training import Trainer
from common.cpu import has_bfloat16
from common.engine import StopSignals
from common.folders import only_run
from common.source import make_source
from common.utils import CheckpointError, UsageError

STRIDE = 32  # of the backbone: other images would be padded, and joints looked for beside where they are


def prepare(args, config, processes):
    """A `print` of the first process; says what of the settings and flags has no effect here."""
    say = print if processes.is_main else lambda *_: None
    if any(side % STRIDE for side in config.model.image_shape):
        raise UsageError(f"model.image_shape must be multiples of {STRIDE}, not {config.model.image_shape}")
    idle = without_effect(config)
    if idle:
        say(f"INFO: no result depends on {', '.join(idle)}")
    if args.amp == "bf16" and processes.device.type == "cpu" and not has_bfloat16():
        say("INFO: this CPU has no bfloat16 instructions: --amp bf16 computes in float32")
        args.amp = "off"
    return say


def build_model(config, limbs, processes):
    """The network on its device, with random weights; limbs: the file of limb lengths."""
    return ContextPose(config, *limb_lengths(limbs)).to(processes.device)


def train(args, config, processes):
    """Train, or go on with the newest run of this title in the logdir."""
    say = prepare(args, config, processes)
    if config.dataset.kind != "human36m":
        raise UsageError(NOT_FOR_TRAINING)
    say("Loading dataset...")
    training = Human36MViews(config, "train", config.train, config.azureroot)
    validation = Human36MViews(config, "val", config.val, config.azureroot)
    model = build_model(config, Path(config.azureroot) / config.train.limb_length_path, processes)
    checkpoint.check_writable(config.logdir, "--logdir")
    # The first process looks and makes: all go on with the same run.
    found = processes.share(_to_go_on_with(args, config, processes) if processes.is_main else None)
    if found is not None and args.weights and not processes.restarted:
        raise UsageError(f"--weights starts a new run, but {found.parents[1]} is one to go on with: add --fresh, or "
                         "leave --weights out")
    if found is None:
        load_initial_weights(model, config.azureroot, say)
        if args.weights:
            load_weights(model, args.weights)
    run = RunFolder(found.parents[1] if found else processes.share(
        new_run(config.logdir, config.title).path if processes.is_main else None))
    if args.sync_bn and processes.world_size > 1:
        model = synchronised(model, processes.device)
    loader = Loader(training, config.train.num_workers, processes.device)
    validating = Loader(validation, config.val.num_workers, processes.device)
    trainer = Trainer(config, run, model, loader, validating, processes, args)
    with only_run(run.path) if processes.is_main else contextlib.nullcontext():
        if found:
            say(f"INFO: going on with {found} (--fresh starts a new run)")
            changed = [name for name in differences(to_dict(config), run.settings() or {})
                       if name not in CHANGE_NO_RESULT]
            if changed:
                say(f"INFO: with other settings than before: {', '.join(changed)}")
            trainer.resume(found)
        say(f"{run.path}: training on {len(training)} frames, validating on {len(validation)}")
        trainer.train()
    if processes.is_main:
        for line in run.places():
            print(line)
    say(f"{run.path}: {trainer.epoch} epochs done; evaluate with --eval --logdir {run.path}")


def _to_go_on_with(args, config, processes):
    """The checkpoint that a training goes on from, or None; --fresh wants one that this launch by torchrun wrote."""
    run = find_run(config.logdir, config.title)
    if run is None or args.fresh and not (processes.restarted and run.launch() == processes.launch):
        return None
    return run.newest()


def chosen_weights(args, config):
    """The weights file that the arguments or the configuration name, else the newest of the logdir's runs."""
    if args.weights:
        return Path(args.weights)
    if config.model.init_weights:
        if not config.model.checkpoint:
            raise UsageError("model.init_weights is true, but model.checkpoint names no file")
        path = Path(config.azureroot) / config.model.checkpoint
        if not path.is_file():
            raise CheckpointError(f"{path}: no such checkpoint; put the published one there, take another by --weights "
                                  f"FILE, or the newest of {config.logdir} by --set model.init_weights=false")
        return path
    return required_run(config.logdir, config.title).newest() / WEIGHTS


def load_model(args, config, processes):
    """(the network with its weights, their file).

    Its limb lengths are those that the weights' run keeps a copy of, else those of the configuration.
    """
    weights = chosen_weights(args, config)
    limbs, run = Path(config.azureroot) / config.val.limb_length_path, run_of(weights)
    if run is not None and (run.path / LIMBS).is_file():
        limbs = run.path / LIMBS
    model = build_model(config, limbs, processes)
    if processes.is_main:
        print(f"weights: {weights}", flush=True)
    load_weights(model, weights)
    return model, weights


def evaluate_weights(args, config, processes):
    """Evaluate: print the report, and write metric.json, results.pkl and results.npz."""
    say, split = prepare(args, config, processes), args.eval_dataset
    say("Loading dataset...")
    if config.dataset.kind == "human36m":
        dataset = Human36MViews(config, split, config.val, config.azureroot)
    elif split == "train":
        raise UsageError(f"--eval_dataset train does not apply to dataset.kind {config.dataset.kind}: a test set")
    else:
        dataset = Mpi3dhpTestViews(config, config.val, config.azureroot)
    model, weights = load_model(args, config, processes)
    checkpoint.check_writable(args.output or config.logdir, "--output" if args.output else "--logdir")
    loader = Loader(dataset, config.val.num_workers, processes.device)
    with StopSignals() as stop:
        metrics, arrays, text = evaluate(model, loader, processes, args.amp, stop)
    say(f"{text}\nwaited for data {loader.waited_share():.0%} of the time")
    if processes.is_main:
        folder = args.output or results_folder(config, weights, split)
        of = {"weights": str(weights), "split": split, "settings": to_dict(config)}
        write_results(folder, metrics | {"of": of}, arrays)
        say(f"wrote {folder}/metric.json, results.pkl and results.npz")


def results_folder(config, weights, split):
    """Where results go: beside the weights of a run in the logdir, or into a new run's folder."""
    run, logdir = run_of(weights), Path(config.logdir).resolve()
    if run is not None and logdir in (run.path, run.path.parent):
        folder = weights.parent
    else:
        run = new_run(config.logdir, config.title)
        run.prepare(to_dict(config), "")
        folder = run.checkpoint(0)
    return folder if split == "val" else folder / split


def predict_own_images(args, config, processes):
    """Poses and pictures of the user's own images."""
    if processes.world_size > 1:
        raise UsageError("--predict runs in one process; start it without torchrun")
    prepare(args, config, processes)
    K, output = parse_intrinsics(args.intrinsics), args.output or Path("output/predict")
    paths = find_images(args.predict)
    boxes = read_boxes(args.boxes, paths, image_sizes(paths))
    model, weights = load_model(args, config, processes)
    checkpoint.check_writable(output, "--output")
    for line in predict_images(model, paths, K, boxes, args.pelvis_depth, processes.device, output,
                               config.model.image_shape, make_source(weights), args.fps):
        print(line)
