"""A process that has everything imported; a run of the pipeline is a fork of it.

A stage starts two interpreters, its own and its kernel's, and each imports torch, pandas and all the rest: eight seconds of
a core before anything is computed, sixty times in a run of the whole pipeline. Inside
``with warm.process(environment) as environment`` they are imported once:

    python -m study.warm MODULE ARGUMENT ...

does what `python -m MODULE ARGUMENT ...` does, with the same folder, environment, standard streams, signals and exit code,
but in a fork of that process, which `$STUDY_WARM` names. Without `$STUDY_WARM` it runs the module itself. The fork ends
when the one that asked for it does. The process has computed nothing, so results are the same to the last bit;
`test_pipeline.py` compares them.

Only on Linux, where a process may be forked after its libraries are loaded; elsewhere each run starts its interpreters.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import study

ADDRESS = "STUDY_WARM"

# What an interpreter reads once, when it starts or imports; the same for every run, so one process can serve all.
# One thread, because sums depend on how they are split; fixed hashing, width and time zone, because output does.
SURROUNDINGS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "COLUMNS": "100",
    "TZ": "UTC",
}
NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}  # pyarrow's allocator would start one; forks have none
BESIDES = ("dvc.cli", "dvc.commands.repro", "ipykernel.kernelapp", "papermill.engines", "sklearn.datasets")
RELAYED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KILLED = 128 + signal.SIGKILL  # the exit code of a process that could not say one


@contextmanager
def process(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Keep a warm process; yields ``environment`` with its address."""
    if sys.platform != "linux":
        yield dict(environment)
        return
    with tempfile.TemporaryDirectory(prefix="study-") as folder:  # which only this user may enter
        address = f"{folder}/warm"
        server = _start(address, environment)
        try:
            yield dict(environment) | {ADDRESS: address}
        finally:
            server.stdin.close()  # which is how it knows
            server.wait()


def _start(address: str, environment: Mapping[str, str]) -> subprocess.Popen:
    """Start the process; whoever connects from now on is answered when it has imported everything."""
    kept = {name: value for name, value in environment.items() if name != ADDRESS} | SURROUNDINGS | NO_THREADS
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        command = [sys.executable, "-m", "study.warm", "--serve", str(listener.fileno())]
        return subprocess.Popen(command, env=kept, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])


def run(module: str, arguments: Sequence[str]) -> int:
    """Run a module with command-line arguments as `python -m` does, in a fork of the warm process if there is one.

    Returns the exit code, which is 137 for a fork that was killed. Raises ``ConnectionError`` if `$STUDY_WARM` names a
    process that has ended.
    """
    address = os.environ.get(ADDRESS)
    if not address:
        return _run_here(module, arguments)
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(address)
        except OSError as error:
            raise ConnectionError(f"${ADDRESS} is {address!r}, where no process listens; unset it ({error})") from None
        _ask(server, {"module": module, "arguments": [*arguments], "folder": os.getcwd(), "environment": dict(os.environ)})
        for number in RELAYED:
            signal.signal(number, lambda number, _: server.sendall(bytes([number])))
        return _last(server)


def _ask(server: socket.socket, request: dict) -> None:
    text = json.dumps(request).encode()
    socket.send_fds(server, [len(text).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(text)


def _last(server: socket.socket) -> int:
    """The last byte before the other side ends, which is its exit code."""
    told = b""
    with suppress(ConnectionResetError):
        while more := server.recv(1):
            told = more
    return told[0] if told else KILLED


def _serve(listener: socket.socket) -> int:
    """Import everything, then fork for whoever asks, until standard input ends. Forks return here, too, with their code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the forks are told by those who asked
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for forks
    _import_everything()
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if listener not in ready:
            return 0
        asking, _ = listener.accept()
        if not os.fork():
            listener.close()
            return _answer(asking)
        asking.close()


def _import_everything() -> None:
    """The modules of the study with all that these import, and what runs stages and notebooks."""
    names = [found.name for found in pkgutil.walk_packages(study.__path__, "study.")]
    for name in (*names, *BESIDES):
        if name not in ("study.__main__", "study.warm"):
            importlib.import_module(name)
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        raise RuntimeError(f"importing the study has started {threads - 1} threads, which forks would lack")
    gc.collect()
    gc.freeze()  # what is there is there to stay: no fork goes through it again, and its pages stay shared


def _answer(asking: socket.socket) -> int:
    """Become the process that was asked for; its exit code is the last that it says."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(asking, 8, 3)
    with asking.makefile("rb") as told:
        request = json.loads(told.read(int.from_bytes(size, "big")))
    _move_into(request, streams)
    threading.Thread(target=_obey, args=(asking,), daemon=True).start()
    code = _run_here(request["module"], request["arguments"])
    threading._shutdown()  # as any program at its end: waits for its threads, does what it left for the exit
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    asking.sendall(bytes([code]))
    return code


def _move_into(request: dict, streams: Sequence[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.path[0] = request["folder"]


def _obey(asking: socket.socket) -> None:
    """Take the signals that are relayed; end when the one that asked has ended."""
    with suppress(ConnectionResetError):
        while number := asking.recv(1):
            os.kill(os.getpid(), number[0])
    os.kill(os.getpid(), signal.SIGKILL)


def _run_here(module: str, arguments: Sequence[str]) -> int:
    sys.argv[1:] = arguments
    if not hasattr(sys.modules.get(module), "__path__"):
        sys.modules.pop(module, None)  # a module, unlike a package, runs under another name
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return _code(ended.code)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _code(said: object) -> int:
    """The exit code of ``sys.exit(said)``."""
    if said is None or isinstance(said, int):
        return (said or 0) & 255
    print(said, file=sys.stderr)
    return 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        os._exit(_serve(socket.socket(fileno=int(sys.argv[2]))))  # without a second for taking apart what was imported
    sys.exit(run(sys.argv[1], sys.argv[2:]))
