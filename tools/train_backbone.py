"""Draws pictures, trains `astray-b0` on them, validates it, and writes it as f16 safetensors.

    pip install -r tools/requirements_backbone.txt
    python tools/train_backbone.py --setting cpu --out runs/backbone

Settings: `test` (under a minute, for checking the program), `trial` (for comparing objectives), `cpu` (those in the program:
three quarters of an hour on two cores), `gpu` (the same recipe, longer and larger; 31 GB of pictures). Seeded; stopped,
it goes on where it was when it is started again.
"""

import argparse
import copy
import math
import pathlib
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch

from backbone import augment, descriptors, network, validation
from backbone.objective import Objective
from backbone.pool import Pool


@dataclass(frozen=True)
class Setting:
    products: int  # drawn once
    side: int  # of a picture, pixels
    batch: int  # products at a time, four pictures each
    steps: int
    learning_rate: float = 2e-3
    weight_decay: float = 0.03
    average: float = 0.998  # of the weights, over steps
    validation: int = 24  # products


SETTINGS = {
    "test": Setting(products=16, side=64, batch=4, steps=6, validation=2),
    "trial": Setting(products=2_000, side=128, batch=16, steps=300),
    "cpu": Setting(products=8_000, side=128, batch=16, steps=2_700),
    "gpu": Setting(products=100_000, side=160, batch=64, steps=40_000, average=0.9995),
}
WARM_UP = 200
SAVE_EVERY = 120  # seconds
LOSSES = ("loss", *Objective.PARTS)


def rate(setting, step):
    """Linear warm-up, then half a cosine."""
    warm = min(WARM_UP, setting.steps // 10 + 1)
    done = step / setting.steps
    return setting.learning_rate * min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * done))


class Batches(torch.utils.data.Dataset):
    """The batch of a step depends on seed and step alone, so that a resumed run sees what it would have seen."""

    def __init__(self, pool, setting, seed):
        self.pool, self.setting, self.seed = pool, setting, seed

    def __len__(self):
        return self.setting.steps

    def __getitem__(self, step):
        """(pictures [E,4,3,S,S] with noise, their descriptors without it [4 E,112,g,g], masks [E,S,S])."""
        torch.manual_seed(self.seed * 1_000_003 + step)
        chosen = torch.randint(self.pool.count, (self.setting.batch,)).tolist()
        pictures, masks = zip(*(self.pool[i] for i in chosen), strict=True)
        clean = torch.from_numpy(np.stack(pictures)).permute(0, 1, 4, 2, 3).float() / 255
        clean, mask = augment.product(clean, torch.from_numpy(np.stack(masks)).float())
        noisy, clean = augment.single(clean)
        return noisy, descriptors.describe(clean.flatten(0, 1)), mask

    def after(self, step):
        """From this step on, drawn up ahead by another process."""
        return torch.utils.data.DataLoader(self, None, sampler=range(step, len(self)), num_workers=1)


class Run:
    """Network, objective, optimiser and the running mean of the network's weights."""

    def __init__(self, setting, weights, seed, device):
        torch.manual_seed(seed)
        self.setting, self.seed, self.device = setting, seed, device
        self.step, self.seconds = 0, 0.0
        self.net = network.Backbone().to(device, memory_format=torch.channels_last).train()
        self.objective = Objective(weights).to(device)
        parameters = [*self.net.parameters(), *self.objective.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, weight_decay=setting.weight_decay)
        self.mean = copy.deepcopy(self.net).eval()

    def described(self):
        return asdict(self.setting) | {"seed": self.seed, "weights": self.objective.weights}

    def state(self):
        parts = {name: getattr(self, name).state_dict() for name in ("net", "objective", "optimiser", "mean")}
        return parts | {"step": self.step, "seconds": self.seconds, "setting": self.described()}

    def restore(self, state):
        if state["setting"] != self.described():
            raise SystemExit(f"the checkpoint is of another setting: {state['setting']}; use another --out")
        for name in ("net", "objective", "optimiser", "mean"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]

    def advance(self, noisy, targets, mask):
        """One step; the loss and its parts."""
        started = time.monotonic()
        noisy, targets, mask = (t.to(self.device) for t in (noisy, targets, mask))
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.setting, self.step)
        flat = network.normalise(noisy.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16):
            stages = self.net.stages(flat)
        loss, parts = self.objective([made.float() for made in stages], targets, mask)
        self.optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        if not torch.isfinite(norm):
            raise SystemExit(f"step {self.step}: the gradient is not finite (parts of the loss: {parts})")
        self.optimiser.step()
        self.step += 1
        self.average()
        self.seconds += time.monotonic() - started
        return [float(loss.detach()), *parts]

    @torch.no_grad()
    def average(self):
        keep = min(self.setting.average, self.step / (self.step + 20))
        for old, new in zip(self.mean.state_dict().values(), self.net.state_dict().values(), strict=True):
            old.lerp_(new, 1 - keep) if old.is_floating_point() else old.copy_(new)


def keep(run, checkpoint):
    """All that is needed to go on; the old file stays until the new one is whole."""
    part = checkpoint.with_suffix(".part")
    torch.save(run.state(), part)
    part.rename(checkpoint)


def write(run, out, drawn):
    """The averaged network and what the validation says of it."""
    run.mean.eval()
    score = validation.score(lambda p: run.mean(p.to(run.device)).cpu(), drawn)
    notes = {"licence": "MIT", "images": "drawn by tools/backbone", "step": run.step}
    network.save(run.mean, out / "astray-b0.safetensors", notes)
    return score


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=SETTINGS, default="cpu")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--pool", type=pathlib.Path, help="folder of the drawn pictures (default: in --out)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="other than the setting's; the schedule goes with it")
    parser.add_argument("--weights", type=float, nargs=5, default=(1.0, 0.3, 0.0, 0.0, 0.0),
                        metavar=tuple(part.upper() for part in Objective.PARTS), help="of the objective's parts")
    options = parser.parse_args()
    setting = SETTINGS[options.setting]
    if options.steps:
        setting = Setting(**asdict(setting) | {"steps": options.steps})
    options.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pool = Pool(options.pool or options.out, setting.products, setting.side)
    drawn = validation.products(options.pool or options.out, setting.validation)
    run = Run(setting, options.weights, options.seed, device)
    checkpoint = options.out / "checkpoint.pt"
    if checkpoint.exists():
        run.restore(torch.load(checkpoint, weights_only=True))
        print(f"goes on at step {run.step}", flush=True)
    saved, told, sums = time.monotonic(), run.step, np.zeros(len(LOSSES))
    for batch in Batches(pool, setting, options.seed).after(run.step):
        sums += run.advance(*batch)
        if run.step % 50 == 0:
            means = zip(LOSSES, sums / (run.step - told), strict=True)
            parts = ", ".join(f"{name} {mean:.3f}" for name, mean in means)
            print(f"step {run.step}/{setting.steps} {run.seconds:.0f} s: {parts}", flush=True)
            sums[:], told = 0, run.step
        if run.step % max(setting.steps // 4, 1) == 0 or run.step == setting.steps:
            image, pixel = write(run, options.out, drawn)
            print(f"step {run.step}: validation image AUROC {image:.4f}, pixel AUROC {pixel:.4f}", flush=True)
            saved = 0.0
        if time.monotonic() - saved > SAVE_EVERY:
            keep(run, checkpoint)
            saved = time.monotonic()


if __name__ == "__main__":
    main()
