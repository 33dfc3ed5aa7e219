"""Machines made of processes: schedulers and workers from the command line, and learners whose work can be watched."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil

from study.learners import NearestNeighbour

SECONDS = 300  # longest wait for anything here, which a busy machine may take to start a process


def wait_until(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Watched(NearestNeighbour):
    """Nearest neighbours that write down when a process begins and ends a block, and halt in between at a sign."""

    folder: str

    def fit_predict(self, data, members, seeds):
        log, obeyed = Log(Path(self.folder)), set()
        log.write("begin", seeds)
        while sign := log.sign():
            if sign not in obeyed:
                log.write(f"halt-{sign}", seeds)
            obeyed.add(sign)
            time.sleep(0.01)
        labels = super().fit_predict(data, members, seeds)
        log.write("end", seeds)
        return labels


class Greedy(NearestNeighbour):
    """Takes all the memory it can get, up to 8 GiB, once the file ``sign`` is there."""

    sign: str

    def fit_predict(self, data, members, seeds):
        hoard = []
        while Path(self.sign).exists() and len(hoard) < 64:
            hoard.append(np.ones(2**27, dtype=np.uint8))
            time.sleep(0.05)
        return super().fit_predict(data, members, seeds)


class Unlucky(NearestNeighbour):
    """Trial 2 diverges."""

    def fit_predict(self, data, members, seeds):
        labels = super().fit_predict(data, members, seeds)
        for split in labels:
            split[[seed.trial == 2 for seed in seeds]] = -1
        return labels


class Log:
    """What the processes of `Watched` have written down, and the sign at which they halt."""

    def __init__(self, folder: Path):
        self.file, self.folder = folder / "log", folder

    def write(self, event: str, seeds) -> None:
        with open(self.file, "a") as log:
            log.writelines(f"{event} {seed.trial} {os.getpid()}\n" for seed in seeds)

    def trials(self, event: str, pid: int | None = None) -> Counter:
        """How often an event befell each trial, in one process or in all."""
        lines = [line.split() for line in self.file.read_text().splitlines()] if self.file.exists() else []
        return Counter(int(trial) for what, trial, who in lines if what == event and pid in (None, int(who)))

    def in_flight(self, pid: int, since: str = "begin") -> set[int]:
        return set(self.trials(since, pid) - self.trials("end", pid))

    def sign(self) -> str:
        """The name of the sign that is up, or nothing."""
        return next((sign.name for sign in self.folder.glob("halt-*")), "")[5:]

    def raise_sign(self, name: str) -> None:
        (self.folder / f"halt-{name}").touch()

    def lower_sign(self, name: str) -> None:
        (self.folder / f"halt-{name}").unlink()


class Machines:
    """Starts a scheduler and workers as anyone would, on free ports of this machine; `end` ends those that are left."""

    def __init__(self, folder: Path):
        self.folder, self.processes = folder, []

    def _start(self, *command: str, **environment: str) -> subprocess.Popen:
        tests = str(Path(__file__).parent)
        surroundings = {"PYTHONPATH": tests, "OMP_NUM_THREADS": "1", "DASK_TEMPORARY_DIRECTORY": str(self.folder)}
        with open(self.folder / f"process-{len(self.processes)}.log", "w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command, "--host", "127.0.0.1", "--no-dashboard"],
                env=os.environ | surroundings | environment,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def scheduler(self, **environment: str) -> tuple[str, subprocess.Popen]:
        """Address and process of a new scheduler."""
        file = self.folder / f"scheduler-{len(self.processes)}.json"
        process = self._start("scheduler", "--port", "0", "--scheduler-file", str(file), **environment)
        wait_until(lambda: file.exists() and file.read_text().endswith("}"))
        return json.loads(file.read_text())["address"], process

    def worker(self, address: str, *options: str, **environment: str) -> subprocess.Popen:
        return self._start("worker", address, "--nthreads", "1", *(options or ["--no-nanny"]), **environment)

    def dismiss(self, *processes: subprocess.Popen) -> None:
        """End them at once, and the processes that they have started."""
        alive = [psutil.Process(process.pid) for process in processes if process.poll() is None]
        for process in [child for parent in alive for child in parent.children(recursive=True)] + alive:
            process.kill()
        for process in processes:
            process.wait(SECONDS)

    def end(self) -> None:
        self.dismiss(*self.processes)
