"""The teacher: conditional RealNVP (spec section 5), with the released code's parameter names."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import generator, operators

# Places of the coupling blocks in the released code's `module_list`.
PLACES = (3, 5, 7, 9)


class Subnet(nn.Module):
    """conv -> ReLU -> conv, replicate padding, times one learned gamma (applied in the coupling)."""

    def __init__(self, inputs, hidden, outputs, kernel):
        super().__init__()
        self.padding = [kernel // 2] * 4
        self.conv1 = nn.Conv2d(inputs, hidden, kernel)
        self.conv2 = nn.Conv2d(hidden, outputs, kernel)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        hidden = F.relu(self.conv1(operators.pad(x, self.padding, "replicate")))
        return self.conv2(operators.pad(hidden, self.padding, "replicate"))


class Block(nn.Module):
    """A fixed permutation, then two couplings; s2 reads x2 and changes x1, s1 reads y1 and changes x2."""

    def __init__(self, channels, hidden, condition, kernel, seed):
        super().__init__()
        self.order = np.random.RandomState(seed).permutation(channels).tolist()
        half = channels // 2
        self.s1 = Subnet(half + condition, hidden, channels, kernel)
        self.s2 = Subnet(half + condition, hidden, channels, kernel)

    def forward(self, x, condition, alpha):
        x1, x2 = x[:, self.order].chunk(2, dim=1)
        y1, first = operators.coupling(x1, self.s2(torch.cat([x2, condition], 1)), self.s2.gamma, alpha)
        y2, second = operators.coupling(x2, self.s1(torch.cat([y1, condition], 1)), self.s1.gamma, alpha)
        return torch.cat([y1, y2], 1), first + second


class Teacher(nn.Module):
    """N,C,H,W features -> latent z of the same shape and the log-determinant [N,1,H,W]."""

    def __init__(self, channels, hidden, kernels=(3, 3, 3, 5), alpha=1.9, condition=32):
        super().__init__()
        self.alpha, self.condition = alpha, condition
        blocks = {
            str(place): Block(channels, hidden, condition, kernel, seed)
            for seed, (place, kernel) in enumerate(zip(PLACES, kernels))
        }
        self.module_list = nn.ModuleDict(blocks)

    def forward(self, x):
        code = (
            operators.positional_encoding(self.condition, *x.shape[2:]).to(x.dtype).expand(len(x), -1, -1, -1)
        )
        log_det = 0.0
        for block in self.module_list.values():
            x, change = block(x, code, self.alpha)
            log_det = log_det + change
        return x, log_det

    def loss(self, x, mask, over="foreground"):
        """Mean of |z|^2 / 2 - log-determinant over the foreground or over every pixel."""
        z, log_det = self(x)
        return operators.masked_mean(operators.likelihood_map(z, log_det, mask), mask, over)


def seed_parameters(model, prefix, gamma=0.3):
    """Seeded weights and biases (bound 1 / sqrt(fan_in)) and batch-norm (1 + 0.2 u, 0.1 u); gamma constant.

    The generator's name of a parameter is `prefix` + its state-dict name.
    """
    with torch.no_grad():
        for path, module in model.named_modules():
            name = f"{prefix}{path}"
            if isinstance(module, nn.Conv2d):
                outputs, inputs, kernel, _ = module.weight.shape
                module.weight.copy_(generator.conv_weight(f"{name}.weight", kernel, inputs, outputs, 1.0))
                module.bias.copy_(
                    generator.vector(f"{name}.bias", outputs, 1.0 / (inputs * kernel * kernel) ** 0.5)
                )
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(generator.vector(f"{name}.weight", module.num_features, 0.2, 1.0))
                module.bias.copy_(generator.vector(f"{name}.bias", module.num_features, 0.1))
            elif isinstance(module, Subnet):
                module.gamma.fill_(torch.tensor(gamma, dtype=torch.float32).item())
