"""One peer with one work, in a process of its own:  python -m peers.worker PEER WORK FOLDER

Builds, calls once, and prints a line of JSON with what it computed. Then, for each line on stdin (seconds), calls
until they are over and prints the milliseconds of each call. Between lines it sleeps.
"""

import contextlib
import json
import os
import pathlib
import resource
import sys
import time

import numpy as np

from . import inputs

THREADS = len(os.sched_getaffinity(0))
STEPS = {
    "student-step": ("student", "2d"),
    "teacher-2d-step": ("teacher", "2d"),
    "teacher-3d-step": ("teacher", "3d"),
}


def torch_step(peer, work):
    import torch

    from . import models

    torch.set_num_threads(THREADS)
    if work.startswith("teacher"):
        import torch._inductor.config

        # PyTorch 2.15 expects other strides of replication_pad2d_backward than it gives in channels-last.
        torch._inductor.config.layout_optimization = False
    step = models.Step(
        *STEPS[work], channels_last=peer == "torch-channels-last", compiled=peer == "torch-compile"
    )
    return lambda: [step().numpy()]


def torch_network(peer, work, folder):
    import torch

    from . import models

    torch.set_num_threads(THREADS)
    layout = torch.contiguous_format if peer == "torch-eager" else torch.channels_last
    net = models.network(work, folder).to(memory_format=layout)
    if peer == "torch-compile":
        import torch._inductor.config

        torch._inductor.config.freezing = True
        net = torch.compile(net)

    def run(*arrays):
        with torch.no_grad():
            outputs = net(*(torch.from_numpy(a).contiguous(memory_format=layout) for a in arrays))
        return [t.numpy() for t in (outputs if isinstance(outputs, tuple) else [outputs])]

    return run


def onnxruntime_network(work, folder):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    # Threads spin within a run, as by default, and sleep after it.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        folder / f"{work}.onnx", options, providers=["CPUExecutionProvider"]
    )
    names = [node.name for node in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays)))


def openvino_network(peer, work, folder):
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": THREADS,
        "INFERENCE_PRECISION_HINT": peer.removeprefix("openvino-"),
    }
    compiled = openvino.Core().compile_model(folder / f"{work}.onnx", "CPU", settings)
    request = compiled.create_infer_request()

    def run(*arrays):
        request.infer(list(arrays))
        return [request.get_output_tensor(i).data for i in range(len(compiled.outputs))]

    return run


def depth(peer, folder):
    from . import depth_loops

    z = inputs.depth(folder)
    prepare = depth_loops.by_pixel if peer == "python-loops" else depth_loops.by_array
    return lambda: list(prepare(z))


def build(peer, work, folder):
    """A function of nothing that does the work once and gives its arrays."""
    if work == "depth":
        return depth(peer, folder)
    if work in STEPS:
        return torch_step(peer, work)
    if peer == "onnxruntime":
        run = onnxruntime_network(work, folder)
    elif peer.startswith("openvino"):
        run = openvino_network(peer, work, folder)
    else:
        run = torch_network(peer, work, folder)
    made = inputs.of_network(work, folder)
    if work == "extractor":
        return lambda: run(*made)
    # From the decoded picture on: resizing and normalising belong to a prediction.
    decoded = inputs.picture(folder)
    return lambda: run(inputs.pixels(decoded), *made[1:])


def flop_counter():
    from torch.utils.flop_counter import FlopCounterMode

    return FlopCounterMode(display=False)


def main():
    peer, work, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    call = build(peer, work, folder)
    counter = flop_counter() if peer == "torch-eager" else contextlib.nullcontext()
    with counter:
        arrays = [np.asarray(array, dtype=np.float64) for array in call()]
    result = {"norm": float(np.linalg.norm(arrays[0])), "mean": float(arrays[0].mean())}
    if work.startswith("predict-"):
        result["score"] = inputs.score(work, *arrays)
    if peer == "torch-eager":
        result["gflop"] = counter.get_total_flops() / 1e9
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    call()  # the second call of a compiled model may still compile
    print(json.dumps(result), flush=True)
    for line in sys.stdin:
        start, times = time.perf_counter(), []
        while not times or time.perf_counter() - start < float(line):
            before = time.perf_counter()
            call()
            times.append((time.perf_counter() - before) * 1e3)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
