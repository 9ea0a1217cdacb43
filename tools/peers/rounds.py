"""Participants measured in turn: each round runs every one once, one at a time; ratios are taken within a round."""

import contextlib
import datetime
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess

TOOLS = pathlib.Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def alone(gate):
    """Holds `gate` while the body runs: a command that runs another one when its turn has come (`flock FILE`)."""
    if not gate:
        yield
        return
    holder = subprocess.Popen(
        [*shlex.split(gate), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    print(file=holder.stdin, flush=True)
    holder.stdout.readline()
    try:
        yield
    finally:
        holder.stdin.close()
        holder.wait()


class Process:
    """A peer that stays: a line in, a line of JSON out. `started` is its first line, if it speaks first."""

    def __init__(self, command, environment=None, cwd=TOOLS, speaks_first=True):
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env=os.environ | (environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("PEERS_LOG") else subprocess.DEVNULL,
            text=True,
        )
        self.started = self.answer() if speaks_first else None

    def answer(self):
        """The next line of JSON; what libraries print beside it is passed over."""
        for line in self.process.stdout:
            if line.startswith(("{", "[")):
                return json.loads(line)
        raise RuntimeError(f"stopped with status {self.process.wait()} (PEERS_LOG=1 shows what it said)")

    def ask(self, request):
        print(request, file=self.process.stdin, flush=True)
        return self.answer()

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def in_turn(participants, rounds, gate):
    """participants: name -> function of nothing that gives milliseconds. Returns name -> a figure per round.

    The order turns round by one each time, so that nobody always comes after the same one. Who fails is dropped
    from all rounds and named.
    """
    times, failed = {name: [] for name in participants}, {}
    for number in range(rounds):
        names = [name for name in participants if name not in failed]
        shift = number % max(len(names), 1)
        with alone(gate):
            for name in names[shift:] + names[:shift]:
                try:
                    times[name].append(participants[name]())
                except Exception as error:
                    failed[name] = f"{type(error).__name__}: {error}"
    return {name: values for name, values in times.items() if name not in failed}, failed


def summary(work, own, times, targets):
    """Medians, and each peer's figure over ours: median, lowest and highest round."""
    rows = []
    for name, values in times.items():
        row = {"work": work, "who": name, "ms": statistics.median(values), "rounds": values}
        if name != own and own in times:
            ratios = [theirs / ours for theirs, ours in zip(values, times[own])]
            row |= {"ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}
        rows.append(row | ({"target": targets[name]} if name in targets else {}))
    return rows


def milliseconds(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(rows, unit="ms"):
    """Markdown; a ratio above 1 means that the peer needs more than astray."""
    lines = [
        f"| work | who | {unit}, median | theirs / ours, median (lowest to highest) | target |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = f"{row['ratio']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f})" if "ratio" in row else ""
        target = ""
        if "target" in row and "ratio" in row:
            target = f"{row['target']}×: {'reached' if row['ratio'] >= row['target'] else 'MISSED'}"
        lines.append(f"| {row['work']} | {row['who']} | {milliseconds(row['ms'])} | {ratio} | {target} |")
    return "\n".join(lines)


def machine():
    """What the figures hold for."""
    models = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def versions(packages):
    from importlib import metadata

    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
