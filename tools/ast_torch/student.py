"""The student: a residual CNN (spec section 6), with the released code's parameter names."""

import torch
import torch.nn.functional as F
from torch import nn

from . import operators


class ResidualBlock(nn.Module):
    """conv -> BN -> LeakyReLU -> conv -> BN -> LeakyReLU -> + input."""

    def __init__(self, width, slope):
        super().__init__()
        self.slope = slope
        self.l1, self.bn1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.l2, self.bn2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x):
        y = F.leaky_relu(self.bn1(self.l1(x)), self.slope)
        return x + F.leaky_relu(self.bn2(self.l2(y)), self.slope)


class Student(nn.Module):
    """N,C,H,W features -> an estimate of the teacher's z; the positional channels come first."""

    def __init__(self, channels, width, blocks=4, slope=0.2, condition=32):
        super().__init__()
        self.slope, self.condition = slope, condition
        self.conv1 = nn.Conv2d(channels + condition, width, 3, padding=1)
        self.res = nn.ModuleList(ResidualBlock(width, slope) for _ in range(blocks))
        self.conv2 = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x):
        code = (
            operators.positional_encoding(self.condition, *x.shape[2:]).to(x.dtype).expand(len(x), -1, -1, -1)
        )
        y = F.leaky_relu(self.conv1(torch.cat([code, x], 1)), self.slope)
        for block in self.res:
            y = block(y)
        return self.conv2(y)

    def loss(self, x, teacher_output, mask, over="foreground"):
        """Mean over the foreground of the distance to the teacher."""
        return operators.masked_mean(operators.distance_map(self(x), teacher_output, mask), mask, over)
