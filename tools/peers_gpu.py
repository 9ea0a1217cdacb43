"""A prebuilt astray on a discrete GPU, for a machine that is there only for minutes: one report.

    python tools/peers_gpu.py --program astray --minutes 8 --out runs/peers_gpu

Needs the program and PyTorch with CUDA (and timm for the extractor). The most valuable comes first: adapter, operators
proven, the speed of PyTorch's matrix product, roof and profile, PyTorch beside it in f32, then in f16 (a training step
by autocast and a gradient scaler, channels-last), the other operators. Every step stands alone, has a part of the time,
and the report is written after each, so that whatever ends the run leaves what was measured before.
--dry-run-cpu tries the script itself out: PyTorch on the CPU, astray on whatever --device says.
"""

import argparse
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import time
import traceback

from peers import astray, rounds

# work -> astray's name for it.
WORKS = {"student": "student", "student-step": "student-step", "extractor": "extractor-b5-768"}
# precision -> PyTorch's modes; the first one is the issue's.
MODES = {"f32": ("f32",), "f16": ("autocast", "half")}
HEAVIEST = 5
# What `selftest` alone does not run: f16, and the kernels that were not chosen.
SELFTESTS = (
    ("--precision", "f16"),
    ("--operator", "conv2d", "--variant", "matrix", "--precision", "f16"),
    ("--operator", "conv2d", "--variant", "tile64"),
    ("--operator", "conv2d", "--variant", "tile128"),
    ("--operator", "conv2d", "--variant", "winograd2", "--precision", "f16"),
    ("--operator", "conv2d", "--variant", "winograd4"),
)
GROUPS = (
    "teacher-2d",
    "teacher-3d",
    "teacher-2d-step",
    "teacher-3d-step",
    "conv2d 3x3",
    "conv2d 1x1",
    "depthwise",
)


class Clock:
    """The card's clock, read twice a second while a step runs: the roof falls with it."""

    QUERY = "clocks.sm,power.draw"

    def __init__(self, file):
        self.file, self.process = file, None
        command = ["nvidia-smi", f"--query-gpu={self.QUERY}", "--format=csv,noheader,nounits", "-lms", "500"]
        with contextlib.suppress(FileNotFoundError), file.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out)
        self.seen = 0

    def since(self):
        """Since the last call: `1095 MHz (345 to 1980), 310 W`; None without nvidia-smi."""
        if self.process is None:
            return None
        lines = self.file.read_text().splitlines()
        fresh, self.seen = lines[self.seen :], len(lines)
        readings = [[float(part) for part in line.split(",")] for line in fresh if line.count(",") == 1]
        if not readings:
            return None
        clocks, watts = zip(*readings, strict=True)
        return (
            f"{statistics.median(clocks):.0f} MHz ({min(clocks):.0f} to {max(clocks):.0f}), "
            f"{statistics.median(watts):.0f} W"
        )

    def stop(self):
        if self.process is not None:
            self.process.terminate()


class Run:
    """What was asked, what is left of the time, what was found."""

    def __init__(self, options):
        self.options, self.end = options, time.monotonic() + 60 * options.minutes
        self.steps, self.rows, self.sections, self.peer = {}, [], {}, None
        self.clock, self.clocks = Clock(options.out / "clocks.csv"), {}

    def left(self):
        return self.end - time.monotonic()

    def command(self, *arguments, share=0.3):
        """astray's own output; kept in a file of the report folder, whatever the exit status."""
        command = [str(part) for part in (self.options.program, *arguments)]
        timeout = max(5.0, share * self.left())
        file = self.options.out / f"{arguments[0]}.txt"
        with file.open("w") as out:
            status = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, timeout=timeout).returncode
        text = file.read_text()
        if status:
            raise RuntimeError(f"{' '.join(command)} ended with status {status}: {text[-2000:]}")
        return text

    def step(self, name, work):
        """Runs one step and notes how it ended; then writes the report."""
        if self.options.only not in name:
            return
        began = time.monotonic()
        if self.left() < 10:
            self.steps[name] = "NOT RUN: the time was over"
        else:
            try:
                work()
                self.steps[name] = f"done in {time.monotonic() - began:.0f} s"
            except Exception as error:
                traceback.print_exc()
                self.steps[name] = (
                    f"FAILED after {time.monotonic() - began:.0f} s: {type(error).__name__}: {error}"
                )
        print(f"{name}: {self.steps[name]}", flush=True)
        if clock := self.clock.since():
            self.clocks[name] = clock
            lines = (f"{step}: {clock}" for step, clock in self.clocks.items())
            self.sections["The card's clock, median (lowest to highest), by step"] = "\n".join(lines)
        self.report()

    def devices(self):
        self.sections["Adapters"] = self.command("devices")
        try:
            query = [
                "nvidia-smi",
                "--query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem,power.limit",
                "--format=csv",
            ]
            self.sections["nvidia-smi"] = subprocess.run(
                query, capture_output=True, text=True, timeout=20
            ).stdout
        except FileNotFoundError:
            self.sections["nvidia-smi"] = "no nvidia-smi"

    def selftest(self, *options):
        text = self.command("selftest", "--device", self.options.device, *options)
        self.sections[f"selftest {' '.join(options)}"] = "\n".join(text.splitlines()[-8:])

    def profile(self, precision):
        """Roof and kernels of a prediction with the 2D preset, its largest; the heaviest against the roof."""
        files = {kind: self.options.out / f"profile-{precision}.{kind}" for kind in ("json", "html", "trace")}
        written = [part for kind, file in files.items() for part in (f"--{kind}", file)]
        chosen = ("--preset", "mvtec2d", "--device", self.options.device, "--precision", precision)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a slow device: measured as it is
            self.command("profile", "predict", *chosen, "--rounds", 1, "--tune", share=0.15)
        text = self.command("profile", "predict", *chosen, *written)
        self.sections[f"profile of a prediction, {precision}"] = text
        found = json.loads(files["json"].read_text())
        kernels = {}
        for kernel in found["kernels"]:  # of all shapes together
            name = f"{kernel['op']} {kernel['entry']}"
            seconds, at_roof = kernels.get(name, (0.0, 0.0))
            ideal = kernel["seconds"] * kernel["percent_of_roof"] / 100
            kernels[name] = (seconds + kernel["seconds"], at_roof + ideal)
        heaviest = sorted(kernels.items(), key=lambda item: -item[1][0])[:HEAVIEST]
        lines = [
            f"{name}: {1e3 * t:.2f} ms, {100 * ideal / t:.0f} % of the roof" for name, (t, ideal) in heaviest
        ]
        clock = "times by the host's clock: ESTIMATED" if found["estimated"] else "GPU timestamps"
        wanted = "wanted: 60 % of the measured roof" if precision == "f32" else "the roof is that of matrix units, where it has them"
        self.sections[f"The heaviest kernels, {precision} ({wanted})"] = "\n".join([clock, *lines])

    def operators(self, group, precision):
        """One group of `astray bench`; what it found is lost if the time ends within it, so groups are small."""
        file = self.options.out / f"bench-{group.replace(' ', '-')}-{precision}.json"
        chosen = ("--device", self.options.device, "--precision", precision, "--seconds", 0.2, "--json", file)
        self.sections[f"astray bench {group}, {precision}"] = self.command("bench", group, *chosen, share=0.9)

    def torch(self):
        """PyTorch's process, started once."""
        if self.peer is None:
            device = "cpu" if self.options.dry_run_cpu else "cuda"
            self.peer = rounds.Process([sys.executable, "-W", "ignore", "-m", "peers.gpu_worker", device])
            self.sections["PyTorch"] = json.dumps(self.peer.started)
        return self.peer

    def products(self):
        """What PyTorch's matrix product of 8192 × 8192 makes: what can be had of the card as it runs today."""
        size = 512 if self.options.dry_run_cpu else 8192
        lines = []
        for mode in ("f32", "half"):
            request = {"work": "product", "mode": mode, "batch": size, "seconds": self.options.seconds}
            answer = self.torch().ask(json.dumps(request))
            if "error" in answer:
                raise RuntimeError(answer["error"])
            lines.append(f"{mode}: {2e-9 * size**3 / statistics.median(answer):.1f} TFLOP/s")
        self.sections[f"PyTorch's matrix product, {size} × {size}"] = "\n".join(lines)

    def compare(self, work, precision):
        """One work and precision, astray and PyTorch in turn."""
        options, process, ours = self.options, self.torch(), []

        batch = 8 if work.endswith("-step") else 1

        def own(*more):
            chosen = ("--precision", precision, *more) if precision != "f32" else more
            limit = max(5.0, 0.5 * self.left())
            found = astray.bench(
                options.program, WORKS[work], batch, options.device, options.seconds, chosen, limit
            )
            ours.append(found)
            return found["p50_ms"]

        def theirs(mode):
            request = {"work": work, "mode": mode, "batch": batch, "seconds": options.seconds}
            answer = process.ask(json.dumps(request))
            if "error" in answer:
                raise RuntimeError(answer["error"])
            return statistics.median(answer)

        def timed(function):
            if self.left() < 0:
                raise TimeoutError("the time was over")
            return function()

        timed(lambda: own("--tune"))  # for half a minute at most; pipelines go to the driver's cache
        ours.clear()
        participants = {astray.NAME: lambda: timed(own)}
        for mode in MODES[precision]:
            if not (mode == "half" and work.endswith("-step")):
                participants[f"PyTorch {mode}"] = lambda mode=mode: timed(lambda: theirs(mode))
        times, failed = rounds.in_turn(participants, options.rounds, None)
        first = f"PyTorch {MODES[precision][0]}"
        self.rows += rounds.summary(f"{work}, {precision}, batch {batch}", astray.NAME, times, {first: 1.0})
        if failed:
            raise RuntimeError(f"not measured: {failed}")

    def report(self):
        """report.md and report.json, as far as we are."""
        document = {
            "machine": rounds.machine(),
            "program": astray.version(self.options.program),
            "minutes": self.options.minutes,
            "dry_run_cpu": self.options.dry_run_cpu,
            "steps": self.steps,
            "rows": self.rows,
            "sections": self.sections,
        }
        (self.options.out / "report.json").write_text(json.dumps(document, indent=1) + "\n")
        title = "astray on the GPU beside PyTorch"
        if self.options.dry_run_cpu:
            title = "DRY RUN of the script: these figures say nothing about a GPU"
        parts = [f"# {title}", json.dumps(document["machine"]), document["program"], "## Steps"]
        parts.append("\n".join(f"- {name}: {how}" for name, how in self.steps.items()))
        parts += ["## Beside PyTorch, in turn", rounds.table(self.rows)]
        for name, text in self.sections.items():
            parts.append(f"## {name}\n\n```\n{text.strip()}\n```")
        (self.options.out / "report.md").write_text("\n\n".join(parts) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=pathlib.Path, default=astray.default(), help="a prebuilt astray")
    parser.add_argument("--device", default="gpu", help="as astray takes it")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="PyTorch calls until they are over")
    parser.add_argument("--only", default="", metavar="TEXT", help="the steps whose name contains this")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/peers_gpu"))
    parser.add_argument("--dry-run-cpu", action="store_true")
    options = parser.parse_args()
    options.program, options.out = options.program.resolve(), options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options)
    run.step("adapters", run.devices)
    run.step("selftest", run.selftest)
    run.step("matrix product", run.products)
    for precision in MODES:
        run.step(f"roof and profile, {precision}", lambda precision=precision: run.profile(precision))
        for work in WORKS:
            run.step(f"{work}, {precision}", lambda work=work, precision=precision: run.compare(work, precision))
    for chosen in SELFTESTS:
        run.step(f"selftest {' '.join(chosen)}", lambda chosen=chosen: run.selftest(*chosen))
    for group in GROUPS:
        for precision in ("f32", "f16") if group.endswith("-step") else ("f32",):
            run.step(
                f"bench {group}, {precision}",
                lambda group=group, precision=precision: run.operators(group, precision),
            )
    if run.peer:
        run.peer.stop()
    run.clock.stop()
    print(options.out / "report.md")


if __name__ == "__main__":
    main()
