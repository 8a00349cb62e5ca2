"""The two loops: train for one epoch, predict sequences."""
import contextlib
import signal
from dataclasses import dataclass

import numpy as np
import torch

from common.augment import mirror, mirror_intrinsics
from common.utils import Interrupted, SuiteError, progress

# Windows that go through the network at once in evaluation. A constant, so that no figure depends on --batch-size.
EVALUATION_WINDOWS = 128


class StopSignals:
    """Within this context Ctrl-C and SIGTERM set `requested`, so that loops can save and stop between two batches.

    A second Ctrl-C interrupts at once.
    """

    def __init__(self):
        self.requested = False
        self._previous = {}

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            # Handlers can be set in the main thread only; elsewhere the default ones stay.
            with contextlib.suppress(ValueError):
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number, _frame):
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


@dataclass
class EpochProgress:
    """How far this process is in an epoch: batches done, the sum of losses over windows, the windows."""

    batches: int = 0
    loss_sum: float = 0.0
    windows: int = 0


def autocast(device, amp):
    """The context of mixed precision `amp` ("off" or "bf16") on `device`."""
    return torch.autocast(device.type, torch.bfloat16) if amp == "bf16" else contextlib.nullcontext()


def train_one_epoch(model, generator, criterion, optimizer, processes, done, stop, amp="off", clip=None, limit=None):
    """Train on the batches of one epoch, after the `done.batches` that are done; `done` (EpochProgress) counts on.

    criterion(output, targets) is a loss averaged over the batch; limit: stop after so many batches. Raises Interrupted
    between two batches when `stop` was requested in any process.
    """
    model.train()
    device, batches = processes.device, min(generator.num_batches(), limit or generator.num_batches())
    bar = progress(total=batches, initial=done.batches, desc="training", unit="batch")
    for cameras, targets, inputs in generator.next_epoch(skip=done.batches):
        if done.batches >= batches:
            break
        if processes.any(stop.requested):
            raise Interrupted
        inputs, targets = (torch.from_numpy(poses).to(device, non_blocking=True) for poses in (inputs, targets))
        known = [] if cameras is None else [torch.from_numpy(cameras).to(device)]
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, amp):
            output = model(inputs, *known)
        loss = criterion(output, targets)
        # Averaging over processes weighs them alike; weigh each by its windows, so that the sum is the batch's mean.
        share = len(inputs) * processes.world_size / generator.windows_in_batch(done.batches)
        (loss * share).backward()
        processes.average_gradients(model)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        value = loss.item()
        if not np.isfinite(value):
            raise SuiteError(f"the loss became {value} in batch {done.batches + 1}; lower -lr or set --clip-grad-norm, "
                             "and resume from the last checkpoint")
        done.batches, done.windows = done.batches + 1, done.windows + len(inputs)
        done.loss_sum += value * len(inputs)
        bar.update()
        bar.set_postfix_str(f"loss {done.loss_sum / done.windows:.4f}", refresh=False)
    bar.close()


def window_view(keypoints, length, causal):
    """All windows of a sequence (T, J, 2), padded by its edges: a strided view (T, length, J, 2), no copy."""
    before = length - 1 if causal else length // 2
    padded = np.pad(keypoints, ((before, length - 1 - before), (0, 0), (0, 0)), "edge")
    frame, joint, coordinate = padded.strides
    shape = (len(keypoints), length, *padded.shape[1:])
    return np.lib.stride_tricks.as_strided(padded, shape, (frame, frame, joint, coordinate), writeable=False)


def prediction_bar(frames, flip, desc):
    """A bar for `predict` of so many frames: each is a window, and with `flip` its mirror image is one more."""
    return progress(total=frames * (1 if flip is None else 2), desc=desc, unit="window", unit_scale=True)


def predict(model, keypoints, device, flip=None, amp="off", frames=None, intrinsics=None, stop=None, bar=None):
    """The poses (T, J, 3) of a sequence of keypoints (T, J_in, 2), root-relative, as float32 NumPy.

    flip: None, or (kps_left, kps_right, joints_left, joints_right): average with the mirrored input's prediction.
    frames: the frames (n,) to predict, where not all are wanted. intrinsics: (9,) of the camera, where `model` takes
    them. stop: a StopSignals; when it is requested the result is None. bar: a `prediction_bar` to move on.
    """
    if flip is not None:
        plain = predict(model, keypoints, device, None, amp, frames, intrinsics, stop, bar)
        mirrored = predict(model, mirror(keypoints, *flip[:2]), device, None, amp, frames,
                           None if intrinsics is None else mirror_intrinsics(intrinsics), stop, bar)
        return None if plain is None or mirrored is None else (plain + mirror(mirrored, *flip[2:])) / 2
    windows = window_view(keypoints, model.receptive_field(), model.causal)
    frames = np.arange(len(windows)) if frames is None else frames
    known = [] if intrinsics is None else [torch.from_numpy(intrinsics)[None].to(device)]
    poses = []
    with torch.inference_mode(), autocast(device, amp):
        for first in range(0, len(frames), EVALUATION_WINDOWS):
            if stop is not None and stop.requested:
                return None
            batch = torch.from_numpy(windows[frames[first : first + EVALUATION_WINDOWS]]).to(device)
            output = model(batch, *known)
            poses.append((output[0] if isinstance(output, tuple) else output)[:, 0].float().cpu())
            if bar is not None:
                bar.update(len(batch))
    return torch.cat(poses).numpy()


def predict_each(model, sequences, measure, processes, flip=None, amp="off", stop=None, desc="evaluating"):
    """[measure(prediction, sequence)] of all sequences, in order, shared among the processes without doubling any.

    The prediction is that of the frames that count, `sequence.scored_frames()`.
    Raises Interrupted when `stop` was requested in any process, in all of them after the same sequence.
    """
    model.eval()
    # The longest first and in turns: every process gets about the same work.
    frames = [sequence.scored_frames() for sequence in sequences]
    order = sorted(range(len(sequences)), key=lambda i: -len(frames[i]))[processes.rank :: processes.world_size]
    results = {}
    bar = prediction_bar(sum(len(frames[i]) for i in order), flip, desc)
    for turn in range(-(-len(sequences) // processes.world_size)):
        if turn < len(order):  # the last turn may be for the processes before this one
            i = order[turn]
            prediction = predict(model, sequences[i].keypoints, processes.device, flip, amp, frames[i],
                                 sequences[i].intrinsics, stop, bar)
            if prediction is not None:
                results[i] = measure(prediction, sequences[i])
        if stop is not None and processes.any(stop.requested):
            raise Interrupted
    bar.close()
    merged = {key: value for part in processes.gather(results) for key, value in part.items()}
    return [merged[i] for i in range(len(sequences))]
