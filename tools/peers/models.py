"""The works in PyTorch: the extractor, whole predictions, training steps, with the weights that astray has."""

import torch
import torch.nn.functional as F
from ast_torch import operators
from ast_torch.real_nvp import Teacher
from ast_torch.student import Student
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

GRID, BATCH = 24, 8
# (channels, hidden width of the teacher, clamp) of the paper's presets.
PRESETS = {"2d": (304, 1024, 3.0), "3d": (368, 64, 1.9)}


class Extractor(nn.Module):
    """timm's EfficientNet-B5 cut after block 35."""

    def __init__(self, weights=None):
        super().__init__()
        import timm  # the other works run without it

        net = timm.create_model("tf_efficientnet_b5", drop_rate=0.0, drop_path_rate=0.0)
        if weights is not None:
            net.load_state_dict(load_file(weights), strict=False)
        self.layers = nn.Sequential(net.conv_stem, net.bn1, net.blocks[:6]).eval()

    def forward(self, pixels):
        return self.layers(pixels)


class Coded(nn.Module):
    """Teacher or student with its positional code computed once, as a constant."""

    def __init__(self, net, batch=1):
        super().__init__()
        self.net = net
        code = operators.positional_encoding(net.condition, GRID, GRID).float()
        self.register_buffer("code", code.repeat(batch, 1, 1, 1))


class CodedTeacher(Coded):
    def forward(self, x):
        log_det = 0.0
        for block in self.net.module_list.values():
            x, change = block(x, self.code, self.net.alpha)
            log_det = log_det + change
        return x, log_det


class CodedStudent(Coded):
    def forward(self, x):
        y = F.leaky_relu(self.net.conv1(torch.cat([self.code, x], 1)), self.net.slope)
        for block in self.net.res:
            y = block(y)
        return self.net.conv2(y)


def teacher(preset, batch=1):
    channels, hidden, clamp = PRESETS[preset]
    return CodedTeacher(Teacher(channels, hidden, alpha=clamp), batch)


def student(preset, batch=1):
    return CodedStudent(Student(PRESETS[preset][0], 1024), batch)


class Predictor(nn.Module):
    """Normalised pixels (and prepared depth and mask) to the anomaly map at 192² and the map at 24²."""

    def __init__(self, preset, weights, model):
        super().__init__()
        self.extractor, self.teacher, self.student = Extractor(weights), teacher(preset), student(preset)
        for block in self.student.net.res:
            block.bn1 = block.bn2 = nn.Identity()  # a model file holds them folded
        load(self.teacher.net, model, "teacher.")
        load(self.student.net, model, "student.")
        self.eval()

    def forward(self, pixels, depth=None, mask=None):
        x = self.extractor(pixels)
        if depth is not None:
            x = torch.cat([x, F.pixel_unshuffle(depth, 8)], 1)
        low = ((self.student(x) - self.teacher(x)[0]) ** 2).mean(dim=1, keepdim=True)
        if mask is not None:
            low = low * mask
        return F.interpolate(low, scale_factor=8, mode="bicubic", align_corners=False), low


def load(net, model, prefix):
    """astray's tensors: PyTorch's names, convolutions as [kh,kw,C_in,C_out]."""
    state = {}
    with safe_open(model, "pt") as file:
        for name in file.keys():
            if name.startswith(prefix):
                value = file.get_tensor(name)
                state[name[len(prefix) :]] = (
                    value.permute(3, 2, 0, 1).contiguous() if value.dim() == 4 else value
                )
    missing = net.load_state_dict(state, strict=False)
    lacking = [name for name in missing.missing_keys if not name.endswith("num_batches_tracked")]
    if lacking or missing.unexpected_keys:
        raise SystemExit(f"{model}: lacks {lacking}, has {missing.unexpected_keys} too many")


def network(work, folder):
    """The extractor, or the whole from normalised pixels to the map."""
    if work == "extractor":
        return Extractor(folder / "b5.safetensors")
    preset = work.removeprefix("predict-")
    return Predictor(preset, folder / "b5.safetensors", folder / f"model-{preset}/model.safetensors")


class Step:
    """One training step on fixed features: forward, loss, gradients, Adam. The loss is not read."""

    def __init__(self, kind, preset, device="cpu", channels_last=False, compiled=False, autocast=False):
        net = teacher(preset, BATCH) if kind == "teacher" else student(preset, BATCH)
        self.net = net.to(device).train()
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.net = self.net.to(memory_format=layout)
        random = torch.Generator().manual_seed(0)
        shape = (BATCH, PRESETS[preset][0], GRID, GRID)
        self.x, self.target = (
            torch.randn(shape, generator=random).to(device).contiguous(memory_format=layout) for _ in range(2)
        )
        self.mask = torch.ones(BATCH, 1, GRID, GRID, device=device)
        self.loss = self.teacher_loss if kind == "teacher" else self.student_loss
        if compiled:
            self.loss = torch.compile(self.loss)
        self.adam = torch.optim.Adam(self.net.parameters(), lr=2e-4, weight_decay=1e-5, fused=True)
        self.autocast = torch.autocast(device, dtype=torch.float16, enabled=autocast)
        self.scaler = torch.amp.GradScaler(device, enabled=autocast and device == "cuda")

    def teacher_loss(self):
        z, log_det = self.net(self.x)
        return operators.masked_mean(operators.likelihood_map(z, log_det, self.mask), self.mask)

    def student_loss(self):
        return operators.masked_mean(
            operators.distance_map(self.net(self.x), self.target, self.mask), self.mask
        )

    def __call__(self):
        self.adam.zero_grad()
        with self.autocast:
            loss = self.loss()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.adam)
        self.scaler.update()
        return loss.detach()
