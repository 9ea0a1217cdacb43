"""PyTorch on the GPU, one process for all works:  python -m peers.gpu_worker DEVICE

For each line `{"work": …, "mode": …, "batch": …, "seconds": …}` the milliseconds of each call, from an idle device
to an idle device. Modes: `f32` eager with TF32 off; `autocast`, f16 by autocast, channels-last; `half`, weights
and pictures in f16, channels-last (no training). The work `product` multiplies matrices, batch × batch. cuDNN chooses
its kernels by trial before the clock starts.
"""

import contextlib
import json
import sys
import time

import torch

from . import models


def settings():
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


class Bench:
    def __init__(self, device):
        self.device, self.ready = device, {}

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def build(self, work, mode, batch):
        """A call of nothing."""
        last = mode != "f32"
        if work == "product":
            kind = torch.float16 if last else torch.float32
            a, b = torch.rand((2, batch, batch), device=self.device).to(kind)
            return lambda: a @ b
        if work == "student-step":
            return models.Step("student", "2d", self.device, channels_last=last, autocast=mode == "autocast")
        if work == "extractor":
            net, shape = models.Extractor(), (batch, 3, 768, 768)
        else:
            net, shape = models.student("2d", batch), (batch, 304, 24, 24)
        layout = torch.channels_last if last else torch.contiguous_format
        kind = torch.float16 if mode == "half" else torch.float32
        net = net.eval().to(self.device, kind).to(memory_format=layout)
        x = torch.rand(shape, device=self.device).to(kind).contiguous(memory_format=layout)
        cast = (
            torch.autocast(self.device, dtype=torch.float16)
            if mode == "autocast"
            else contextlib.nullcontext()
        )

        def call():
            with torch.inference_mode(), cast:
                return net(x)

        return call

    def milliseconds(self, work, mode, batch, seconds):
        key = (work, mode, batch)
        if key not in self.ready:
            self.ready = {}  # one work's memory at a time
            self.ready[key] = self.build(*key)
            for _ in range(3):
                self.ready[key]()
        call, times = self.ready[key], []
        self.wait()
        start = time.perf_counter()
        while not times or time.perf_counter() - start < seconds:
            before = time.perf_counter()
            call()
            self.wait()
            times.append((time.perf_counter() - before) * 1e3)
        return times


def main():
    device = sys.argv[1]
    settings()
    name = torch.cuda.get_device_name() if device == "cuda" else "the CPU, to try the script out"
    print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "device": name}), flush=True)
    bench = Bench(device)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            print(json.dumps(bench.milliseconds(**request)), flush=True)
        except Exception as error:  # one work's failure must not end the others
            bench.ready = {}
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main()
