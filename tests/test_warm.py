"""A fork of the warm process is, to whoever asked for it, the process that `python -m` would have started."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study import warm

PROBE = """
import atexit, json, os, sys, threading
if __name__ == "__main__":
    loaded = "torch" in sys.modules
    seen = {"argv": sys.argv[1:], "folder": os.getcwd(), "own": os.environ.get("PROBE"), "asked": sys.stdin.read()}
    seen |= {"first": sys.path[0], "zone": __import__("time").strftime("%Z"), "threads": os.environ.get("OMP_NUM_THREADS")}
    print(json.dumps(seen))
    print(f"loaded {loaded}", file=sys.stderr)
    atexit.register(lambda: print("at exit"))
    threading.Timer(0.2, lambda: print("a thread")).start()
"""
ENDS = {
    "import sys; sys.exit()": (0, ""),
    "import sys; sys.exit(7)": (7, ""),
    "import sys; sys.exit('no ink')": (1, "no ink\n"),
    "raise ValueError('no ink')": (1, "ValueError: no ink\n"),
}
WAITS = """
import signal, sys, time
def ended(number, frame):
    print("told to end", flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, ended)
print("ready", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(6)
"""
ALIVE = """
import os, time
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def environment():
    with warm.process(os.environ | {"TZ": "UTC"}) as environment:
        yield environment


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "study.warm", module, *arguments]


def start(module: str, environment) -> subprocess.Popen:
    return subprocess.Popen(command(module), env=environment, stdout=subprocess.PIPE, text=True)


def test_a_fork_sees_what_a_process_of_its_own_would_see(folder, environment):
    Path("probe.py").write_text(PROBE)
    told = []
    for surroundings in (environment, {name: environment[name] for name in environment if name != warm.ADDRESS}):
        own = surroundings | {"PROBE": "é", "OMP_NUM_THREADS": "3"}
        told.append(
            subprocess.run(
                command("probe", "a", "b c"), env=own, input="a question", capture_output=True, text=True, check=True
            )
        )
    forked, alone = told
    assert forked.stdout == alone.stdout
    assert json.loads(forked.stdout.splitlines()[0]) == {
        "argv": ["a", "b c"],
        "folder": str(folder),
        "own": "é",
        "asked": "a question",
        "first": str(folder),
        "zone": "UTC",
        "threads": "3",
    }
    assert forked.stdout.splitlines()[1:] == ["a thread", "at exit"]
    assert (forked.stderr, alone.stderr) == ("loaded True\n", "loaded False\n")


@pytest.mark.parametrize("code", ENDS)
def test_its_exit_code_and_its_last_words_arrive(folder, environment, code):
    Path("ends.py").write_text(code)
    done = subprocess.run(command("ends"), env=environment, capture_output=True, text=True)
    expected, words = ENDS[code]
    assert done.returncode == expected
    assert done.stderr.endswith(words) and (words or not done.stderr)


@pytest.mark.parametrize(
    ("number", "told", "code"), [(signal.SIGTERM, "told to end\n", 5), (signal.SIGINT, "interrupted\n", 6)]
)
def test_signals_reach_it(folder, environment, number, told, code):
    Path("waits.py").write_text(WAITS)
    asking = start("waits", environment)
    assert asking.stdout.readline() == "ready\n"
    asking.send_signal(number)
    assert asking.communicate()[0] == told
    assert asking.returncode == code


def gone(number: int) -> bool:
    """Whether a process has ended, after half a minute at most."""
    until = time.monotonic() + 30
    while Path(f"/proc/{number}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    return not Path(f"/proc/{number}").exists()


def test_it_ends_with_the_one_that_asked_for_it(folder, environment):
    Path("alive.py").write_text(ALIVE)
    asking = start("alive", environment)
    forked = int(asking.stdout.readline())
    assert forked != asking.pid
    asking.kill()
    asking.wait()
    try:
        assert gone(forked)
    finally:
        asking.stdout.close()


def test_one_that_is_killed_is_told_by_its_exit_code(folder, environment):
    Path("alive.py").write_text(ALIVE)
    asking = start("alive", environment)
    os.kill(int(asking.stdout.readline()), signal.SIGKILL)
    asking.communicate()
    assert asking.returncode == 137


def test_an_address_where_nothing_listens_is_named(folder):
    done = subprocess.run(
        command("json.tool"), env=os.environ | {warm.ADDRESS: "/nowhere/warm"}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "$STUDY_WARM is '/nowhere/warm', where no process listens; unset it" in done.stderr


def test_the_process_ends_with_the_block(folder):
    with warm.process(os.environ) as environment:
        address = Path(environment[warm.ADDRESS])
        assert address.is_socket()
    assert not address.exists()
    assert warm.ADDRESS not in os.environ
