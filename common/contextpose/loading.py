"""Batches of ContextPose's samples, read and cut out by other processes while the network computes.

    loader = Loader(dataset, num_workers=4, device=device)
    for epoch in range(epochs):
        for batch in loader.epoch(dataset.plan(seed, epoch), desc=f"epoch {epoch}"):
            ...                         # a Batch on the device
        loader.waited_share()           # of the epoch's time, how much was spent waiting for data
    loader.close()
"""
import contextlib
import multiprocessing
import re
import time
import warnings

import torch
from torch.utils.data import DataLoader, Dataset

from common.contextpose.samples import collate
from common.parallel import start_worker, without_interrupt
from common.utils import SuiteError, progress, require

PRELOADED = ["torch", "numpy", "cv2"]  # what workers would take seconds to import
PREFETCHED = 2  # batches that a worker makes ahead


class _Failure:
    """An error on its way from a worker: raised there, it would arrive as a page of traceback."""

    def __init__(self, error):
        self.error = error


class _Guarded(Dataset):
    """A dataset that returns what is wrong with a sample instead of raising it."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __getitem__(self, key):
        try:
            return self.dataset[key]
        except SuiteError as error:
            return _Failure(error)


def _collate(samples):
    """A Batch, or the first _Failure among the samples."""
    return next((sample for sample in samples if isinstance(sample, _Failure)), None) or collate(samples)


class _Batches:
    """The batches of the present epoch: what a DataLoader asks for anew whenever it starts over."""

    def __init__(self):
        self.batches = []

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def _start(_):
    """Set up a worker: it has one thread, leaves Ctrl-C to the process that started it, and ends with it."""
    start_worker()
    torch.set_num_threads(1)
    require("cv2", "opencv-python-headless").setNumThreads(1)


def _context():
    """How workers start: forked from a small server that has imported what they need, in tens of milliseconds.

    A fork of this process itself would copy the locks of threads that it does not copy (OpenMP's, the GPU's, those of
    pinning and logging), and hang on them sooner or later; CUDA forbids it. A spawned process imports torch anew, for
    seconds, in every worker; it is what is left on Windows.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class Loader:
    """Batches of a dataset on a device, epoch after epoch, from workers that are kept in between.

    num_workers: processes; 0 reads in this one. After (and during) an epoch, `waiting` and `total` are the seconds that
    it waited for data and that it took, what was done with the batches included.
    """

    def __init__(self, dataset, num_workers, device):
        require("cv2", "opencv-python-headless")  # one line here, not a traceback out of every worker
        self.dataset, self.num_workers, self.device = dataset, num_workers, torch.device(device)
        self.waiting = self.total = 0.0
        self._batches, self._loader = _Batches(), None

    def epoch(self, batches, desc=None, skip=0):
        """Generate the Batches of `batches`, lists of keys, without the first `skip`; desc: title of a progress bar.

        Raises the SuiteError of a sample that cannot be read, and SuiteError where a worker was killed.
        """
        self._batches.batches, started = list(batches)[skip:], time.perf_counter()
        self.waiting = self.total = 0.0
        if not self._batches.batches:
            return
        complete = False
        titled = progress(total=len(batches), initial=skip, desc=desc) if desc else contextlib.nullcontext()
        try:
            with titled as bar:
                for batch in self._moved(self._timed(self._read())):
                    yield batch
                    self.total = time.perf_counter() - started
                    if bar is not None:
                        bar.update()
            complete = True
        finally:
            self.total = time.perf_counter() - started
            if not complete:
                self.close()  # its workers may be at batches that nobody will take, or dead

    def waited_share(self):
        """The share of the epoch's time, from 0 to 1, that was spent waiting for data."""
        return self.waiting / self.total if self.total else 0.0

    def close(self):
        """End the workers; another epoch starts new ones."""
        self._loader = None  # the last reference to it and its iterator, with which its workers end

    def _read(self):
        """Generate the batches as the workers make them."""
        wanted, starting = min(self.num_workers, len(self._batches)), contextlib.nullcontext()
        if self._loader is None or self._loader.num_workers < wanted:
            self.close()
            self._loader = self._make(wanted)
            starting = without_interrupt() if wanted else starting
        with starting:  # the server that forks workers inherits it, and they from it
            iterator, killed = iter(self._loader), False
        try:
            while (batch := next(iterator, None)) is not None:
                if isinstance(batch, _Failure):
                    raise batch.error
                yield batch
        except RuntimeError as error:
            killed = re.search("DataLoader worker.*(killed|exited)", str(error))
            if not killed:
                raise
        finally:
            del iterator  # or the traceback of an error would keep it, and its workers
        if killed:
            raise SuiteError("a process that reads images was killed, perhaps for want of memory (or of shared memory, "
                             "/dev/shm): lower num_workers")

    def _make(self, workers):
        several = {"multiprocessing_context": _context(), "worker_init_fn": _start, "persistent_workers": True,
                   "prefetch_factor": PREFETCHED} if workers else {}
        # A generator of its own: it draws a seed for the workers, which must not shift the random numbers of training.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on more workers than processors: reading waits for the disk too
            return DataLoader(_Guarded(self.dataset), batch_sampler=self._batches, collate_fn=_collate,
                              num_workers=workers, pin_memory=self.device.type == "cuda", generator=torch.Generator(),
                              **several)

    def _timed(self, batches):
        """The same batches; the time that they take to come is counted."""
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.waiting += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def _moved(self, batches):
        """The same batches on the device; on a GPU the next one is copied while this one is computed with."""
        if self.device.type != "cuda":
            for batch in batches:
                yield batch.to(self.device)
            return
        stream, ready = torch.cuda.Stream(self.device), None
        for batch in batches:
            with torch.cuda.stream(stream):
                coming = batch.to(self.device), stream.record_event()
            if ready is not None:
                yield self._handed_over(*ready)
            ready = coming
        if ready is not None:
            yield self._handed_over(*ready)

    def _handed_over(self, batch, copied):
        """A batch of another stream, for the present one: it waits for the copy, and its memory for the computation."""
        present = torch.cuda.current_stream(self.device)
        present.wait_event(copied)
        for values in batch[:4]:
            values.record_stream(present)
        return batch
