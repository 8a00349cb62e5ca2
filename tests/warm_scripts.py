"""Scripts as processes that need not import torch anew: forked from a process that has, and has done nothing else.

`conftest.start` uses it. The template (this file as a script) imports the libraries, runs nothing of
them and has no thread, so that a fork of it is what a fresh Python is after its imports: own memory, default signals,
new pipes, the folder and the environment that it is given, new random numbers. torchrun, forked, has a second such
process beside it, which its workers are forked from.
"""
import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

# What the scripts import, of others and of the suite: modules that only define.
LIBRARIES = ("numpy", "scipy.io", "scipy.spatial.transform", "torch", "torch._dynamo", "torch.distributed.run", "h5py",
             "yaml", "PIL.Image", "cv2", "av", "matplotlib.pyplot", "tqdm", "common.lifting", "common.training",
             "common.mpi3dhp", "common.visualization")
# Variables that a fork can be given; with others, which Python or a library may have read at its start, none is forked.
# LD_LIBRARY_PATH and TORCHINDUCTOR_CACHE_DIR are set by cv2 and torch._dynamo, once a test imports them.
FREE = ("PYTEST_CURRENT_TEST", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT",
        "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_RUN_ID", "LD_LIBRARY_PATH", "TORCHINDUCTOR_CACHE_DIR")
MODULES = ("torch.distributed.run", "torch.distributed.launch")  # launchers that may be forked


class Forked:
    """A forked script, used like subprocess.Popen with text pipes for stdout and stderr, or without pipes."""

    def __init__(self, args, pid, status, pipes=()):
        self.args, self.pid, self.returncode, self._status = args, pid, None, status
        self.stdout, self.stderr = [open(pipe, encoding="utf-8") for pipe in pipes] or (None, None)
        self._texts, self._readers = {}, []

    def poll(self):
        return self._wait(0)

    def wait(self, timeout=None):
        if self._wait(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def _wait(self, timeout):
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            told = os.read(self._status, 16)
            os.close(self._status)
            if not told:
                raise RuntimeError("the process that scripts are forked from has ended")
            self.returncode = int(told)
        return self.returncode

    def communicate(self, timeout=None):
        """(stdout, stderr) once both are closed and the script has ended. Raises subprocess.TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        if not self._readers:
            self._readers = [threading.Thread(target=self._read, args=(pipe,), daemon=True)
                             for pipe in (self.stdout, self.stderr)]
            for reader in self._readers:
                reader.start()
        for reader in self._readers:
            reader.join(None if end is None else max(0, end - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
        self.wait(None if end is None else max(0, end - time.monotonic()))
        return self._texts[self.stdout], self._texts[self.stderr]

    def _read(self, pipe):
        with pipe:
            self._texts[pipe] = pipe.read()

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class Forks:
    """The other end of `connection` is a process that forks scripts, and ends when this end is closed; see `serve`."""

    def __init__(self, connection):
        self._socket, self._lock = connection, threading.Lock()

    def fork(self, command, cwd, environment, ends, pipes=()):
        """command: the script, or -m and a module, and arguments; ends: what its stdout and stderr are to be, and
        pipes: their other ends, which are read here. Returns a Forked.
        """
        request = json.dumps([command, str(cwd), environment]).encode()
        status, status_end = os.pipe()
        with self._lock:
            socket.send_fds(self._socket, [len(request).to_bytes(4, "big")], [*ends, status_end])
            self._socket.sendall(request)
            pid = int.from_bytes(_receive(self._socket, 4), "big")
        os.close(status_end)
        return Forked(command, pid, status, pipes)


class Template(Forks):
    """The process to fork from, of one pytest process; it ends with that process."""

    def __init__(self, environment):
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        self.environment = environment
        with theirs:
            self._process = subprocess.Popen([sys.executable, __file__, str(theirs.fileno())], env=environment,
                                             pass_fds=[theirs.fileno()])
        self.is_safe = self._socket.recv(1) == b"1"

    def can_start(self, command, environment):
        """Whether a fork would be like a fresh process."""
        is_known = not command[0].startswith("-") or (command[0] == "-m" and command[1] in MODULES)
        own = {name: value for name, value in self.environment.items() if name not in FREE}
        return self.is_safe and is_known and own == {name: value for name, value in environment.items()
                                                     if name not in FREE}

    def start(self, command, cwd, environment):
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        forked = self.fork(command, cwd, environment, (out_end, err_end), (out, err))
        os.close(out_end)
        os.close(err_end)
        return forked


def are_supported():
    """Whether this system has what forks need. On macOS system libraries do not survive a fork."""
    return sys.platform.startswith("linux") and hasattr(os, "pidfd_open")


def _receive(connection, size):
    content = b""
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise EOFError
        content += part
    return content


# ---- the template's side


def load():
    """Import the libraries, those that are there. Returns whether a fork is safe: no thread but this one."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):  # a script says which one it misses
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    return len(os.listdir("/proc/self/task")) == 1


def serve(connection, in_groups=False):
    """Fork whenever it is asked. Returns the command in the fork; in the template when nobody will ask again, None.

    in_groups: every fork is the first process of a group, as torchrun has its workers.
    """
    scripts = {}  # pidfd: (pid, where to tell the exit status)
    while True:
        for ready in select.select([connection, *scripts], [], [])[0]:
            if ready is not connection:
                pid, status_end = scripts.pop(ready)
                _tell(status_end, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(ready)
                continue
            try:
                size, ends, _, _ = socket.recv_fds(connection, 4, 3)
                command, cwd, environment = json.loads(_receive(connection, int.from_bytes(size, "big")))
            except (EOFError, ValueError):
                return None
            pid = os.fork()
            if pid == 0:
                connection.close()
                for number in [*scripts, *(end for _, end in scripts.values()), ends[2]]:
                    os.close(number)
                _become_fresh(cwd, environment, ends)
                return command
            if in_groups:
                os.setpgid(pid, pid)
            os.close(ends[0])
            os.close(ends[1])
            scripts[os.pidfd_open(pid)] = pid, ends[2]
            connection.sendall(pid.to_bytes(4, "big"))


def _tell(status_end, status):
    with contextlib.suppress(BrokenPipeError):
        os.write(status_end, str(status).encode())
    os.close(status_end)


def _become_fresh(cwd, environment, ends):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, end in zip((1, 2), ends, strict=False):
        os.dup2(end, number)
        os.close(end)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def fork_workers():
    """Have torchrun, which this process is about to be, fork its workers from another fork of the template.

    In that fork it returns as `serve` does, once for each worker.
    """
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        with open(os.devnull, "w") as nowhere:  # who reads this process's pipes waits for the launcher, not for it
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        worker = serve(theirs, in_groups=True)
        if worker is None:
            os._exit(0)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # torchrun's python -u: what a killed worker has said is there
        return worker
    theirs.close()
    workers, start = Forks(ours), subprocess_handler.SubprocessHandler._popen

    def popen(handler, command, environment):
        if handler._stdout or handler._stderr or command[:2] != (sys.executable, "-u"):
            return start(handler, command, environment)
        return workers.fork(command[2:], os.getcwd(), environment, (1, 2))

    def end_with_this():
        ours.close()
        os.waitpid(pid, 0)

    subprocess_handler.SubprocessHandler._popen = popen
    atexit.register(end_with_this)
    return None


def arrange(command):
    """Set sys.argv and sys.path as Python does for `command`. Returns what runs it."""
    import runpy

    sys.argv = command[1:] if command[0] == "-m" else command
    if command[0] == "-m":
        sys.path[0] = os.getcwd()
        return lambda: runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    sys.path[0] = str(Path(command[0]).resolve().parent)
    return lambda: runpy.run_path(command[0], run_name="__main__")


def run_to_its_end(script):
    """Returns the exit status. What Python ends with a traceback or a signal for is raised."""
    try:
        script()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return (ended.code or 0) & 0xFF
        print(ended.code, file=sys.stderr)
        return 1
    return 0


def end(status):
    """End as Python does, but for the objects of all those libraries, which nobody needs to see taken apart."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = 120  # as Python says it
    os._exit(status)


def main():
    """Load, serve, and be the script in a fork."""
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the suite, not its tests
    connection = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C: end without a word
    connection.sendall(b"1" if load() else b"0")
    command = serve(connection)
    if command:
        if command[0] == "-m":
            command = fork_workers() or command
        end(run_to_its_end(arrange(command)))


if __name__ == "__main__":
    main()
