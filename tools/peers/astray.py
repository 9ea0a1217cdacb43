"""The program under test, run as its users run it."""

import hashlib
import json
import os
import pathlib
import subprocess
import tempfile
import time

from .rounds import TOOLS

NAME = "astray"


def default():
    return TOOLS.parent / "target/release/astray"


def version(program):
    """Its version, and the sha256 of the file."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{said}, sha256 {hashlib.sha256(program.read_bytes()).hexdigest()[:16]}"


def bench(program, name, batch=1, device="cpu", seconds=1.5, options=(), timeout=None):
    """What `astray bench` says of the work of this name and batch."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "bench.json"
        command = [program, "bench", name, "--batch", batch, "--device", device, "--seconds", seconds]
        command = [str(part) for part in (*command, *options, "--json", file)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        entries = json.loads(file.read_text())
    found = [entry for entry in entries if (entry["name"], entry["batch"]) == (name, batch)]
    if not found:
        raise RuntimeError(f"astray bench has no {name} of batch {batch}")
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
