"""A function over many items in several processes, none of which outlives the one that started them."""
import contextlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker

from common.utils import SuiteError


def start_worker():
    """Leave Ctrl-C to the parent, and end with it: a killed parent cannot say so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch():
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def without_interrupt():
    """Hold Ctrl-C back while processes start: they inherit that, and would print a traceback before they ignore it.

    It takes effect here at the end. To be used in the main thread, for nothing that takes long.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would be started with the first process, and unblocks Ctrl-C after that
    came = []
    # What is blocked is inherited, but blocked in one thread only: another one of this process would take the signal.
    handler = signal.signal(signal.SIGINT, lambda *_: came.append(True))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def run_all(function, items, jobs):
    """Generate (item, function(item)) in the order in which they are done; in this process where `jobs` is 1.

    Processes are spawned: `function` and items must pickle. An exception of `function` is raised here, after the other
    processes have been ended. SuiteError where a process was killed.
    """
    items = list(items)
    if jobs == 1 or len(items) < 2:
        for item in items:
            yield item, function(item)
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(items)), mp_context=context, initializer=start_worker)
    try:
        with without_interrupt():
            futures = {pool.submit(function, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise SuiteError("a process was killed, perhaps for want of memory; run again with fewer --jobs: what is done "
                         "is kept") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()  # at the end of all items they are idle; after an error nothing waits for them
            child.join()
