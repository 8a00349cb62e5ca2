"""What run_contextpose.py does: train, evaluate weights, predict own images."""
from pathlib import Path

from common import checkpoint
from common.contextpose.config import to_dict
from common.contextpose.dataset import Human36MViews, limb_lengths
from common.contextpose.evaluation import write_results
from common.contextpose.inference import evaluate
from common.contextpose.loading import Loader
from common.contextpose.model import ContextPose, load_initial_weights, load_weights
from common.contextpose.mpi3dhp_images import Mpi3dhpTestViews
from common.contextpose.own_images import find_images, image_sizes, parse_intrinsics, predict_images, read_boxes
from common.contextpose.runs import LIMBS, WEIGHTS, RunFolder, find_run, new_run, required_run, run_of
from common.contextpose.sync_bn import synchronised
from common.contextpose.training import Trainer
from common.utils import UsageError

DATASETS = {"human36m": Human36MViews, "mpi_inf_3dhp": Mpi3dhpTestViews}


def announcer(processes):
    """A `print` that speaks in the first process only."""
    return print if processes.is_main else lambda *_: None


def build_model(config, processes, limbs=None):
    """The network on its device, with initial weights; limbs: another file of limb lengths than the configuration's."""
    mean, deviation = limb_lengths(limbs or Path(config.azureroot) / config.train.limb_length_path)
    return ContextPose(config, mean, deviation).to(processes.device)


def train(args, config, processes):
    """Train, or go on with the newest run of this title in the logdir."""
    say = announcer(processes)
    if config.dataset.kind != "human36m":
        raise UsageError(f"dataset.kind {config.dataset.kind} is for evaluation only: add --eval")
    training = Human36MViews(config, "train", config.train, config.azureroot)
    validation = Human36MViews(config, "val", config.val, config.azureroot)
    model = build_model(config, processes)
    # The first process looks and makes: all go on with the same run.
    found = None if args.fresh and not processes.restarted else find_run(config.logdir, config.title)
    found = processes.share(found and found.newest())
    if found is not None and args.weights:
        raise UsageError(f"--weights starts a new run, but {found.parents[1]} is one to go on with: add --fresh, "
                         "or leave --weights out")
    if found is None:
        load_initial_weights(model, config.azureroot, say)
        if args.weights:
            load_weights(model, args.weights)
    checkpoint.check_writable(config.logdir, "--logdir")
    run = RunFolder(found.parents[1]) if found else RunFolder(processes.share(
        new_run(config.logdir, config.title).path if processes.is_main else None))
    if args.sync_bn and processes.world_size > 1:
        model = synchronised(model, processes.device)
    loader = Loader(training, config.train.num_workers, processes.device)
    validating = Loader(validation, config.val.num_workers, processes.device)
    trainer = Trainer(config, run, model, loader, validating, processes, args)
    if found:
        trainer.resume(found)
        say(f"INFO: going on with {found} (--fresh starts a new run)")
    say(f"{run.path}: training on {len(training)} frames, validating on {len(validation)}")
    trainer.train()
    say(f"{run.path}: {config.train.n_epochs} epochs done; evaluate with --eval --logdir {run.path}")


def chosen_weights(args, config):
    """The weights file that the arguments or the configuration name, else the newest of the logdir's runs."""
    if args.weights:
        return Path(args.weights)
    if config.model.init_weights:
        if not config.model.checkpoint:
            raise UsageError("model.init_weights is true, but model.checkpoint names no file")
        return Path(config.azureroot) / config.model.checkpoint
    return required_run(config.logdir, config.title).newest() / WEIGHTS


def load_model(args, config, processes):
    """(the network with its weights, their file)."""
    weights, say = chosen_weights(args, config), announcer(processes)
    limbs = Path(config.azureroot) / config.train.limb_length_path
    run = run_of(weights)
    if not limbs.is_file() and run is not None and (run.path / LIMBS).is_file():
        limbs = run.path / LIMBS
    model = build_model(config, processes, limbs)
    load_weights(model, weights)
    say(f"weights: {weights}")
    return model, weights


def evaluate_weights(args, config, processes):
    """Evaluate: print the report, and write metric.json, results.pkl and results.npz."""
    say = announcer(processes)
    kind, split = DATASETS[config.dataset.kind], args.eval_dataset
    if kind is Human36MViews:
        dataset = Human36MViews(config, split, config.val, config.azureroot)
    elif split == "train":
        raise UsageError(f"--eval_dataset train does not apply to dataset.kind {config.dataset.kind}: a test set")
    else:
        dataset = kind(config, config.val, config.azureroot)
    model, weights = load_model(args, config, processes)
    loader = Loader(dataset, config.val.num_workers, processes.device)
    metrics, arrays, text = evaluate(model, loader, processes, args.amp)
    say(f"{text}\nwaited for data {loader.waited_share():.0%} of the time")
    if processes.is_main:
        folder = results_folder(config, weights, split)
        write_results(folder, metrics, arrays)
        say(f"wrote {folder}/metric.json, results.pkl and results.npz")


def results_folder(config, weights, split):
    """Where results go: beside a run's own weights, or into a new run's folder."""
    run = run_of(weights)
    if run is not None and run.path.resolve().parent == Path(config.logdir).resolve():
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
    K = parse_intrinsics(args.intrinsics)
    checkpoint.check_writable(args.output, "--output")
    paths = find_images(args.predict)
    boxes = read_boxes(args.boxes, paths, image_sizes(paths))
    model, _ = load_model(args, config, processes)
    for line in predict_images(model, paths, K, boxes, args.pelvis_depth, processes.device, args.output,
                               config.model.image_shape):
        print(line)
