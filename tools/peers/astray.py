"""The program under test, run as its users run it."""

import hashlib
import json
import os
import subprocess
import time

from .rounds import TOOLS

NAME = "astray"


def default():
    return TOOLS.parent / "target/release/astray"


def version(program):
    """Its version, and the sha256 of the file."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{said}, sha256 {hashlib.sha256(program.read_bytes()).hexdigest()[:16]}"


def bench(program, name, *options, device="cpu", timeout=None):
    """What `astray bench` says of the work of this name."""
    command = [program, "bench", name, "--device", device, "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    found = [entry for entry in json.loads(done.stdout) if entry["name"] == name]
    if not found:
        raise RuntimeError(f"astray bench has no work named {name}")
    return found[0]


def spent(command, environment=None):
    """(milliseconds, megabytes at the peak) of a whole process."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=TOOLS,
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with status {process.returncode}")
    return (time.perf_counter() - began) * 1e3, usage.ru_maxrss / 1e3
