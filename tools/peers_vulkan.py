"""astray's GPU operators beside burn's, on the software Vulkan adapter, measured in turn in one run: end to end, the
weights packed in every call.

    cargo build --release && cargo build --release --manifest-path tools/peers_vulkan/Cargo.toml
    python tools/peers_vulkan.py --out runs/peers_vulkan

The second build takes a quarter of an hour on two cores. Writes report.md and report.json. burn tunes itself at the
first call of a shape (up to minutes): reported, not counted. Needs nothing but Python.
"""

import argparse
import json
import pathlib
import statistics

from peers import astray, rounds


def shape(n, side, c_in, kernel, c_out, depthwise=False, matmul=False):
    return {
        "n": n,
        "side": side,
        "c_in": c_in,
        "kernel": kernel,
        "c_out": c_out,
        "depthwise": depthwise,
        "matmul": matmul,
        "epilogue": False,
        # astray's cases: every one with its bias, those of the extractor with SiLU.
        "silu": depthwise or (kernel == 1 and not matmul),
    }


# astray bench's name and batch -> (shape, what the issue asks for). 9216 to 1024 is burn's matrix product of 576×9216
# by 9216×1024; astray has it as a convolution.
WORKS = {
    "conv2d 3x3 1024 to 1024, 24x24, batch 1": (shape(1, 24, 1024, 3, 1024), 4.0),
    "conv2d 3x3 1024 to 1024, 24x24, batch 8": (shape(8, 24, 1024, 3, 1024), 4.0),
    "conv2d 1x1 9216 to 1024, 24x24, batch 1": (shape(1, 24, 9216, 1, 1024, matmul=True), 1.4),
    "conv2d 1x1 40 to 240, 192x192, batch 1": (shape(1, 192, 40, 1, 240), 1.5),
    "conv2d 1x1 176 to 1056, 48x48, batch 1": (shape(1, 48, 176, 1, 1056), 1.5),
    "conv2d 1x1 304 to 1824, 24x24, batch 1": (shape(1, 24, 304, 1, 1824), 1.5),
    "depthwise 5x5 1056, 48x48, batch 1": (shape(1, 48, 1056, 5, 1056, depthwise=True), 2.0),
}


def burn_call(process, shape, seconds, first):
    """Median milliseconds; what the first answer of a shape says beside them goes into `first`."""
    answer = process.ask(json.dumps(shape | {"seconds": seconds}))
    first |= {key: value for key, value in answer.items() if key != "ms"}
    return statistics.median(answer["ms"])


def measure(work, options):
    shape, target = WORKS[work]
    burn, first, ours = rounds.Process([options.burn], speaks_first=False), {}, []
    same = shape | {"epilogue": True}
    name_same = "burn, bias and SiLU" if shape["silu"] else "burn, bias"

    def own(*more):
        name, batch = work.split(", batch ")
        found = astray.bench(options.program, name, int(batch), options.device, options.seconds, more)
        return found["p50_ms"], found["cold_ms"]

    def repacking():
        ms, cold = own("--repack")
        ours.append(cold)
        return ms

    try:
        with rounds.alone(options.setup_gate):
            burn_call(burn, shape, 0.0, first)
            burn_call(burn, same, 0.0, {})
        participants = {
            astray.NAME: repacking,
            "astray, packed before": lambda: own()[0],
            "burn": lambda: burn_call(burn, shape, options.seconds, {}),
            name_same: lambda: burn_call(burn, same, options.seconds, {}),
        }
        times, failed = rounds.in_turn(participants, options.rounds, options.gate)
    except RuntimeError as error:
        return {"rows": [], "not_measured": {"burn": str(error)}, "ours": ours}
    burn.stop()
    rows = rounds.summary(work, astray.NAME, times, {"burn": target})
    for row in rows:
        row["gflops"] = flop(shape) / row["ms"] / 1e6
    return {"rows": rows, "not_measured": failed, "burn": first, "ours": ours}


def flop(shape):
    """Of the sum as it is defined, whatever trick computes it."""
    per_value = shape["kernel"] ** 2 * (1 if shape["depthwise"] else shape["c_in"])
    return 2 * shape["n"] * shape["side"] ** 2 * shape["c_out"] * per_value


def report(document, folder):
    """report.json and report.md."""
    (folder / "report.json").write_text(json.dumps(document, indent=1) + "\n")
    results = document["works"]
    lines = [
        "| work | astray GFLOP/s (first call, ms) | burn GFLOP/s (first call with tuning, s) | burn's error |",
        "|---|---|---|---|",
    ]
    for work, result in results.items():
        speed = {row["who"]: f"{row['gflops']:.1f}" for row in result["rows"]}
        cold = f" ({result['ours'][0]:.0f})" if result["ours"] else ""
        tuning = f" ({result['burn']['first_ms'] / 1e3:.1f})" if result.get("burn") else ""
        error = f"{result['burn']['error']:.1e}" if result.get("burn") else ""
        lines.append(
            f"| {work} | {speed.get(astray.NAME, '')}{cold} | {speed.get('burn', '')}{tuning} | {error} |"
        )
    missing = [
        f"- {work}: {who}: {why}"
        for work, result in results.items()
        for who, why in result["not_measured"].items()
    ]
    missing += [f"- {work}: not run" for work in WORKS if work not in results]
    text = f"""# astray beside burn on software Vulkan

{json.dumps(document["machine"])}

{rounds.table([row for result in results.values() for row in result["rows"]])}

{chr(10).join(lines)}

## Not measured

{chr(10).join(missing) or "nothing: every work is above"}
"""
    (folder / "report.md").write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=pathlib.Path, default=astray.default())
    parser.add_argument(
        "--burn", type=pathlib.Path, default=rounds.TOOLS / "peers_vulkan/target/release/peers_vulkan"
    )
    parser.add_argument("--device", default="0", help="the software adapter's number in `astray devices`")
    parser.add_argument("--only", help="the works whose name contains this")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=1.5, help="burn calls until they are over, once at least"
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/peers_vulkan"))
    parser.add_argument("--gate", help="command that runs a command when the machine is free; for each round")
    parser.add_argument("--setup-gate", help="the same while burn tunes itself")
    options = parser.parse_args()
    options.program, options.burn = options.program.resolve(), options.burn.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "report.json"
    document = json.loads(file.read_text()) if file.exists() else {"works": {}}
    document["machine"] = rounds.machine()
    for work in WORKS:
        if options.only and options.only not in work:
            continue
        result = measure(work, options) | {
            "date": rounds.machine()["date"],
            "program": astray.version(options.program),
        }
        document["works"][work] = result
        report(document, options.out)
        print(rounds.table(result["rows"]), result["not_measured"] or "", flush=True)
    print(options.out / "report.md")


if __name__ == "__main__":
    main()
