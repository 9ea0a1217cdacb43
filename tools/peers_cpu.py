"""astray on the CPU beside PyTorch, ONNX Runtime and OpenVINO, measured in turn in one run.

    cargo build --release
    pip install -r tools/requirements.txt -r tools/requirements_peers.txt
    python tools/peers_cpu.py --out runs/peers_cpu            # all, about half an hour on two cores
    python tools/peers_cpu.py --only extractor --rounds 7

Writes report.md and report.json into --out; a later --only replaces its own work there and keeps the others. The first
run makes weights, models and ONNX files in --cache (about 2 GB). On a machine that is not yours alone, --gate "flock FILE"
takes a lock for each round. A peer that is not installed or fails is named in the report as not measured.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

from peers import astray, inputs, rounds

# PyTorch otherwise gives every large tensor back to the system and faults its pages in again.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "67108864",
}
TORCH = ("torch-eager", "torch-channels-last", "torch-compile")
RUNTIMES = ("onnxruntime", "openvino-f32", "openvino-bf16")
# work -> (astray's name for it, peers, {peer: what the issue asks for}).
WORKS = {
    "extractor": (
        "extractor-b5-768",
        TORCH + RUNTIMES,
        {peer: 1.0 for peer in (*TORCH, "onnxruntime", "openvino-f32")},
    ),
    "predict-2d": ("predict-2d", TORCH + RUNTIMES, {"onnxruntime": 1.2}),
    "predict-3d": ("predict-3d", TORCH + RUNTIMES, {"onnxruntime": 1.2}),
    "student-step": ("student-step", TORCH, {peer: 1.0 for peer in TORCH}),
    "teacher-2d-step": ("teacher-2d-step", TORCH, {peer: 1.0 for peer in TORCH}),
    "teacher-3d-step": ("teacher-3d-step", TORCH, {peer: 1.0 for peer in TORCH}),
    "depth": ("depth-800", ("python-loops", "numpy"), {"python-loops": 100.0}),
}
BATCH = 8  # of a training step
PACKAGES = ("torch", "timm", "onnxruntime", "openvino", "onnx", "numpy")
IMPORTS = ("torch", "torch, timm", "onnxruntime", "openvino")


def worker(peer, work, options, tuned=True):
    """The command and environment of a peer."""
    command = [sys.executable, "-W", "ignore", "-m", "peers.worker", peer, work, options.cache]
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(options.cache / "inductor")}
    return command, cache | (MALLOC if tuned and peer in TORCH else {})


def start_peers(work, peers, options):
    """Processes that are ready, one after the other; and why others are not."""
    running, failed = {}, {}
    for peer in peers:
        with rounds.alone(options.setup_gate):
            try:
                running[peer] = rounds.Process(*worker(peer, work, options))
            except Exception as error:
                failed[peer] = str(error)
    return running, failed


def idle_seconds(running):
    """Processor time that waiting peers take in a second: they must not disturb the others."""
    before = {peer: process.cpu_seconds() for peer, process in running.items()}
    time.sleep(1)
    return {peer: process.cpu_seconds() - before[peer] for peer, process in running.items()}


def own_score(work, options):
    """What astray's own program says of the part, to compare with the peers' scores."""
    command = [options.program, "predict", options.cache / f"model-{work[-2:]}", "--device", "cpu", "--json"]
    command.append(inputs.picture_file(options.cache))
    if work == "predict-3d":
        command += ["--depth", inputs.depth_file(options.cache)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["score"]


def measure(work, options):
    """One work with all its peers."""
    name, peers, targets = WORKS[work]
    running, failed = start_peers(work, peers, options)
    entries = []

    def ours():
        batch = BATCH if work.endswith("-step") else 1
        entries.append(astray.bench(options.program, name, batch, seconds=options.seconds))
        return entries[-1]["p50_ms"]

    participants = {astray.NAME: ours}
    for peer, process in running.items():
        participants[peer] = lambda process=process: statistics.median(process.ask(options.seconds))
    times, dropped = rounds.in_turn(participants, options.rounds, options.gate)
    with rounds.alone(options.gate):
        idle = idle_seconds(running)
    said = {peer: process.started for peer, process in running.items()}
    for process in running.values():
        process.stop()
    result = {
        "rows": rounds.summary(work, astray.NAME, times, targets),
        "not_measured": failed | dropped,
        "idle_seconds": idle,
        "said": said,
        "ours": entries,
    }
    if work.startswith("predict-"):
        result["own_score"] = own_score(work, options)
    return result


def predict(options, model, *files):
    return [options.program, "predict", options.cache / f"model-{model}", *files, "--device", "cpu"]


def start(options):
    """Process start to first score on a picture of 256², beside what Python peers need to be imported."""
    own = predict(options, "small", inputs.picture_file(options.cache, small=True))
    participants = {astray.NAME: lambda: astray.spent(own)[0]}
    for packages in IMPORTS:
        command = [sys.executable, "-c", f"import {packages}"]
        participants[f"python: import {packages}"] = lambda command=command: astray.spent(command)[0]
    times, failed = rounds.in_turn(participants, options.rounds, options.gate)
    return {"rows": rounds.summary("start", astray.NAME, times, {}), "not_measured": failed}


def memory(options):
    """Peak resident megabytes of a process that predicts; peers with the allocator as it comes."""
    result = {"rows": [], "not_measured": {}}
    for work, model, files in (
        ("predict-2d", "2d", [inputs.picture_file(options.cache)]),
        (
            "predict-3d",
            "3d",
            [inputs.picture_file(options.cache), "--depth", inputs.depth_file(options.cache)],
        ),
    ):
        own = predict(options, model, *files)
        participants = {astray.NAME: lambda own=own: astray.spent(own)[1]}
        for peer in ("torch-eager", "torch-channels-last", *RUNTIMES):
            command, environment = worker(peer, work, options, tuned=False)
            participants[peer] = lambda command=command, e=environment: astray.spent(command, e)[1]
        times, failed = rounds.in_turn(participants, min(options.rounds, 3), options.setup_gate)
        result["rows"] += rounds.summary(f"memory of {work}", astray.NAME, times, {"onnxruntime": 1.0})
        result["not_measured"] |= {f"{peer} ({work})": why for peer, why in failed.items()}
    return result


def agreement(results):
    """Markdown: what each peer computed, and what astray did, relative to PyTorch eager."""
    lines = ["| work | who | computed | apart from PyTorch eager | GFLOP |", "|---|---|---|---|---|"]
    for work, result in results.items():
        said = result.get("said", {})
        reference = said.get("torch-eager") or said.get("python-loops")
        if not reference:
            continue
        key = "score" if "score" in reference else "norm"
        values = {peer: value[key] for peer, value in said.items()}
        if "own_score" in result:
            values[astray.NAME] = result["own_score"]
        flops = {peer: value.get("gflop") for peer, value in said.items()}
        if result["ours"] and result["ours"][-1].get("gflops"):
            flops[astray.NAME] = result["ours"][-1]["gflops"] * result["ours"][-1]["p50_ms"] / 1e3
            values.setdefault(astray.NAME, None)
        for who, value in values.items():
            apart = "" if value is None else f"{abs(value - reference[key]) / abs(reference[key]):.1e}"
            number = "" if value is None else f"{key} {value:.6g}"
            count = f"{flops[who]:.1f}" if flops.get(who) else ""
            lines.append(f"| {work} | {who} | {number} | {apart} | {count} |")
    return "\n".join(lines)


def report(document, folder):
    """report.json and report.md."""
    (folder / "report.json").write_text(json.dumps(document, indent=1) + "\n")
    results = document["works"]
    of = lambda wanted: [row for work, result in results.items() if wanted(work) for row in result["rows"]]
    missing = [
        f"- {work}: {peer}: {why}"
        for work, result in results.items()
        for peer, why in result["not_measured"].items()
    ]
    missing += [f"- {work}: not run" for work in (*WORKS, "start", "memory") if work not in results]
    busy = [
        f"{peer} ({work}) {seconds:.2f} s"
        for work, result in results.items()
        for peer, seconds in result.get("idle_seconds", {}).items()
        if seconds > 0.05
    ]
    text = f"""# astray beside its CPU peers

{json.dumps(document["machine"])}
{json.dumps(document["versions"])}

## Time, ms

{rounds.table(of(lambda work: work != "memory"))}

## Peak resident memory, MB

{rounds.table(of(lambda work: work == "memory"), "MB")}

## Do they compute the same?

{agreement(results)}

## Not measured

{chr(10).join(missing) or "nothing: every work and every peer is above"}

Peers that took processor time while they waited: {", ".join(busy) or "none"}.
"""
    (folder / "report.md").write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=pathlib.Path, default=astray.default())
    parser.add_argument(
        "--only", nargs="+", choices=(*WORKS, "start", "memory"), default=(*WORKS, "start", "memory")
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=1.5, help="a peer calls until they are over, once at least"
    )
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("runs/peers"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/peers_cpu"))
    parser.add_argument("--gate", help="command that runs a command when the machine is free; for each round")
    parser.add_argument("--setup-gate", help="the same while a peer starts")
    options = parser.parse_args()
    options.cache, options.out = options.cache.resolve(), options.out.resolve()
    options.program = options.program.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    with rounds.alone(options.setup_gate):
        subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "peers.prepare", options.program, options.cache],
            cwd=rounds.TOOLS,
            check=True,
        )
    file = options.out / "report.json"
    document = json.loads(file.read_text()) if file.exists() else {"works": {}}
    document |= {"machine": rounds.machine(), "versions": rounds.versions(PACKAGES)}
    for work in options.only:
        special = {"start": start, "memory": memory}.get(work)
        result = special(options) if special else measure(work, options)
        result |= {"date": rounds.machine()["date"], "program": astray.version(options.program)}
        document["works"][work] = result
        report(document, options.out)
        print(rounds.table(result["rows"]), *result["not_measured"].items(), sep="\n", flush=True)
    print(f"{options.out / 'report.md'}")


if __name__ == "__main__":
    main()
