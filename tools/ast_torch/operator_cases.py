"""Every operator on odd sizes: forward, and backward for a given output gradient, in f64.

A case names its inputs with shape, bound and offset (`CASE.INPUT` is the generator's name) and its
outputs; the inputs are not stored. Names: `y` the result, `grad_y` the gradient given for it,
`dx` the gradient of input `x`.
"""

import json
import math

import numpy as np
import torch
import torch.nn.functional as F

from . import generator, operators
from .storage import Store, to_nchw, to_nhwc, to_weight


class Case:
    """Seeded inputs and recorded outputs of one operator call."""

    def __init__(self, store, cases, name, op, **params):
        self.store, self.name = store, name
        self.record = {"name": name, "op": op, "params": params, "inputs": [], "outputs": []}
        cases.append(self.record)

    def array(self, name, shape, bound=1.0, offset=0.0):
        """The generated array, listed among the inputs."""
        self.record["inputs"].append({"name": name, "shape": list(shape), "bound": bound, "offset": offset})
        return generator.tensor(f"{self.name}.{name}", tuple(shape), bound, offset)

    def map(self, name, shape, bound=1.0, offset=0.0):
        """An N,H,W,C input as a leaf N,C,H,W tensor."""
        return to_nchw(self.array(name, shape, bound, offset)).requires_grad_()

    def vector(self, name, count, bound=1.0, offset=0.0):
        return torch.from_numpy(self.array(name, (count,), bound, offset)).double().requires_grad_()

    def weight(self, name, shape):
        """[kh,kw,C_in,C_out] or depthwise [kh,kw,C], bound 1 / sqrt(fan_in)."""
        array = torch.from_numpy(
            self.array(
                name, shape, 1.0 / math.sqrt(math.prod(shape[:3]) if len(shape) == 4 else shape[0] * shape[1])
            )
        )
        array = array.double()
        array = array.permute(3, 2, 0, 1) if len(shape) == 4 else array.permute(2, 0, 1)[:, None]
        return array.contiguous().requires_grad_()

    def output(self, name, tensor):
        """Stores an output; 4-dimensional tensors are taken as N,C,H,W maps."""
        tensor = torch.as_tensor(tensor)
        array = to_nhwc(tensor) if tensor.dim() == 4 else tensor.detach().numpy()
        self.raw(name, array)

    def raw(self, name, array):
        self.store.add(f"{self.name}.{name}", array)
        self.record["outputs"].append({"name": name, "shape": list(np.asarray(array).shape)})

    def finish(self, outputs, leaves):
        """Stores the outputs, then for seeded output gradients the gradients of the leaves, as `dNAME`."""
        gradients = []
        for name, tensor in outputs.items():
            self.output(name, tensor)
            if leaves:
                shape = tensor.permute(0, 2, 3, 1).shape if tensor.dim() == 4 else tensor.shape
                array = self.array(f"grad_{name}", shape)
                gradients.append(to_nchw(array) if tensor.dim() == 4 else torch.from_numpy(array).double())
        if leaves:
            values = torch.autograd.grad(list(outputs.values()), list(leaves.values()), gradients)
            for (name, leaf), value in zip(leaves.items(), values):
                is_weight = leaf.dim() == 4 and name == "w"
                if is_weight:
                    array = to_weight(value)
                    self.raw(f"d{name}", array[:, :, 0] if self.record["op"] == "depthwise_conv2d" else array)
                else:
                    self.output(f"d{name}", value)


CONV_CASES = [
    # name, x shape, k, C_out, stride, padding [top, bottom, left, right], mode, bias
    ("k1", (2, 7, 5, 12), 1, 8, 1, [0, 0, 0, 0], "zeros", True),
    ("k1.odd", (3, 5, 7, 5), 1, 7, 1, [0, 0, 0, 0], "zeros", False),
    ("k1s2", (2, 7, 5, 4), 1, 8, 2, [0, 0, 0, 0], "zeros", True),
    ("k3", (2, 9, 7, 8), 3, 12, 1, [1, 1, 1, 1], "zeros", True),
    ("k3.odd", (1, 6, 5, 7), 3, 5, 1, [1, 1, 1, 1], "zeros", True),
    ("k3.rgb", (2, 11, 9, 3), 3, 8, 2, [0, 1, 0, 1], "zeros", False),
    ("k3.replicate", (2, 7, 9, 8), 3, 12, 1, [1, 1, 1, 1], "replicate", True),
    ("k3.replicate.odd", (1, 5, 4, 5), 3, 6, 1, [1, 1, 1, 1], "replicate", True),
    ("k3.replicate.one", (2, 1, 1, 4), 3, 4, 1, [1, 1, 1, 1], "replicate", True),
    ("k3s2", (2, 9, 11, 8), 3, 4, 2, [1, 1, 1, 1], "zeros", True),
    ("k3s2.same", (2, 8, 10, 4), 3, 8, 2, [0, 1, 0, 1], "zeros", True),
    ("k3s2.uneven", (1, 9, 8, 4), 3, 8, 2, [1, 1, 0, 1], "zeros", True),
    ("k3.valid", (2, 6, 7, 4), 3, 8, 1, [0, 0, 0, 0], "zeros", True),
    ("k3.wide", (1, 13, 11, 36), 3, 40, 1, [1, 1, 1, 1], "zeros", True),
    ("k5", (2, 7, 8, 4), 5, 8, 1, [2, 2, 2, 2], "zeros", True),
    ("k5.replicate", (2, 6, 7, 8), 5, 4, 1, [2, 2, 2, 2], "replicate", True),
    ("k5s2.same", (1, 10, 12, 4), 5, 4, 2, [1, 2, 1, 2], "zeros", True),
    ("k5s2.replicate", (1, 9, 7, 4), 5, 4, 2, [2, 1, 1, 2], "replicate", True),
]

DEPTHWISE_CASES = [
    ("k3", (2, 9, 7, 8), 3, 1, [1, 1, 1, 1], True),
    ("k3.odd", (2, 6, 7, 6), 3, 1, [1, 1, 1, 1], False),
    ("k3s2.same", (2, 8, 10, 12), 3, 2, [0, 1, 0, 1], True),
    ("k3s2", (1, 9, 11, 4), 3, 2, [1, 1, 1, 1], True),
    ("k5", (2, 7, 6, 8), 5, 1, [2, 2, 2, 2], True),
    ("k5s2.same", (1, 10, 12, 12), 5, 2, [1, 2, 1, 2], True),
    ("k5s2", (2, 9, 7, 4), 5, 2, [2, 2, 2, 2], True),
    ("k5s2.uneven", (1, 10, 11, 4), 5, 2, [2, 1, 1, 2], True),
]


def convolutions(new):
    for name, shape, k, outputs, stride, padding, mode, bias in CONV_CASES:
        case = new(f"conv2d.{name}", "conv2d", stride=stride, padding=padding, mode=mode)
        leaves = {"x": case.map("x", shape), "w": case.weight("w", (k, k, shape[3], outputs))}
        if bias:
            leaves["b"] = case.vector("b", outputs, 0.5)
        y = operators.conv2d(leaves["x"], leaves["w"], leaves.get("b"), stride, padding, mode)
        case.finish({"y": y}, leaves)
    for name, shape, k, stride, padding, bias in DEPTHWISE_CASES:
        case = new(
            f"depthwise_conv2d.{name}", "depthwise_conv2d", stride=stride, padding=padding, mode="zeros"
        )
        leaves = {"x": case.map("x", shape), "w": case.weight("w", (k, k, shape[3]))}
        if bias:
            leaves["b"] = case.vector("b", shape[3], 0.5)
        y = operators.conv2d(leaves["x"], leaves["w"], leaves.get("b"), stride, padding, groups=shape[3])
        case.finish({"y": y}, leaves)


def batch_norms(new):
    for name, shape in (("train", (3, 5, 7, 12)), ("train.odd", (2, 3, 5, 5))):
        case = new(f"batch_norm.{name}", "batch_norm_train", eps=1e-5, momentum=0.1)
        leaves = {
            "x": case.map("x", shape, 2.0, 0.7),
            "weight": case.vector("weight", shape[3], 0.5, 1.0),
            "bias": case.vector("bias", shape[3], 0.5),
        }
        mean = case.vector("running_mean", shape[3], 0.5).detach()
        variance = case.vector("running_var", shape[3], 0.5, 1.0).detach()
        y = F.batch_norm(leaves["x"], mean, variance, leaves["weight"], leaves["bias"], True, 0.1, 1e-5)
        case.finish({"y": y}, leaves)
        case.output("running_mean_after", mean)
        case.output("running_var_after", variance)
    case = new("batch_norm.eval", "batch_norm_eval", eps=1e-3)
    x, count = case.map("x", (2, 5, 7, 12), 2.0), 12
    weight, bias = case.vector("weight", count, 0.5, 1.0), case.vector("bias", count, 0.5)
    mean, variance = case.vector("running_mean", count, 0.5), case.vector("running_var", count, 0.5, 1.0)
    case.finish({"y": F.batch_norm(x, mean.detach(), variance.detach(), weight, bias, False, 0.1, 1e-3)}, {})


def pointwise(new):
    slopes = {"leaky_relu": 0.2, "leaky_relu.released": 0.01}
    functions = {"relu": F.relu, "silu": F.silu, "sigmoid": torch.sigmoid}
    for name, function in functions.items():
        case = new(name, name)
        x = case.map("x", (2, 5, 7, 6), 4.0)
        case.finish({"y": function(x)}, {"x": x})
    case = new("relu6", "relu6")
    x = case.map("x", (2, 5, 7, 6), 10.0)
    case.finish({"y": F.relu6(x)}, {"x": x})
    for name, slope in slopes.items():
        case = new(name, "leaky_relu", slope=slope)
        x = case.map("x", (2, 5, 7, 6), 4.0)
        case.finish({"y": F.leaky_relu(x, slope)}, {"x": x})
    for name in ("silu", "sigmoid"):  # far from zero: exp must not overflow
        case = new(f"{name}.far", name)
        x = case.map("x", (1, 3, 5, 4), 200.0)
        case.finish({"y": functions[name](x)}, {"x": x})
    case = new("scale", "scale")
    x, gate = case.map("x", (2, 5, 7, 12)), case.map("gate", (2, 1, 1, 12), 0.5, 0.5)
    case.finish({"y": x * gate}, {"x": x, "gate": gate})
    case = new("add", "add")
    a, b = case.map("a", (2, 5, 7, 6)), case.map("b", (2, 5, 7, 6))
    case.finish({"y": a + b}, {"a": a, "b": b})


def reductions(new):
    case = new("global_mean", "global_mean")
    x = case.map("x", (2, 5, 7, 12), 1.0, 0.3)
    case.finish({"y": x.mean(dim=(2, 3), keepdim=True)}, {"x": x})
    case = new("sum", "sum")
    x = case.map("x", (3, 5, 7, 6), 1.0, 0.3)
    case.finish({"y": x.sum()[None]}, {"x": x})
    for name, shape in (("likelihood_map", (2, 5, 7, 12)), ("likelihood_map.odd", (3, 4, 3, 5))):
        case = new(name, "likelihood_map")
        single = (*shape[:3], 1)
        z, log_det = case.map("z", shape, 2.0), case.map("log_det", single, 3.0)
        mask = case.map("mask", single, 0.5, 0.5).detach()
        case.finish({"y": operators.likelihood_map(z, log_det, mask)}, {"z": z, "log_det": log_det})
    for name, shape in (("distance_map", (2, 5, 7, 12)), ("distance_map.odd", (3, 4, 3, 5))):
        case = new(name, "distance_map")
        student, teacher = case.map("student", shape), case.map("teacher", shape)
        mask = case.map("mask", (*shape[:3], 1), 0.5, 0.5).detach()
        case.finish({"y": operators.distance_map(student, teacher, mask)}, {"student": student})


def channels(new):
    case = new("concat", "concat")
    a, b = case.map("a", (2, 5, 3, 6)), case.map("b", (2, 5, 3, 4))
    case.finish({"y": torch.cat([a, b], dim=1)}, {"a": a, "b": b})
    case = new("split", "split", at=5)
    x = case.map("x", (2, 5, 3, 12))
    case.finish({"first": x[:, :5], "second": x[:, 5:]}, {"x": x})
    order = np.random.RandomState(3).permutation(12).tolist()
    case = new("permute", "permute", order=order)
    x = case.map("x", (2, 5, 3, 12))
    case.finish({"y": x[:, order]}, {"x": x})
    for name, shape, d in (("d2", (2, 6, 10, 3), 2), ("d8", (1, 24, 16, 1), 8)):
        case = new(f"pixel_unshuffle.{name}", "pixel_unshuffle", d=d)
        x = case.map("x", shape)
        case.finish({"y": F.pixel_unshuffle(x, d)}, {"x": x})
    for name, shape, d in (("d2", (2, 3, 5, 12), 2), ("d8", (1, 3, 2, 64), 8)):
        case = new(f"pixel_shuffle.{name}", "pixel_shuffle", d=d)
        x = case.map("x", shape)
        case.finish({"y": F.pixel_shuffle(x, d)}, {"x": x})


def couplings(new):
    settings = (
        ("alpha1.9", (2, 5, 7, 6), 1.9, 2.0, 2.0),
        ("alpha3", (2, 3, 5, 4), 3.0, 2.0, 6.0),
        ("odd", (1, 3, 5, 3), 1.9, 2.0, 2.0),
        ("clamped", (2, 5, 3, 4), 3.0, 4e5, 40.0),
    )
    for name, shape, alpha, bound, u_bound in settings:
        case = new(f"coupling.{name}", "coupling", alpha=alpha)
        x, u = case.map("x", shape, bound), case.map("u", (*shape[:3], 2 * shape[3]), u_bound)
        gamma = case.vector("gamma", 1, 0.05, 0.3)
        y, log_det = operators.coupling(x, u, gamma, alpha)
        case.finish({"y": y, "log_det": log_det}, {"x": x, "u": u, "gamma": gamma})
    for name, shape, alpha in (("alpha1.9", (2, 5, 7, 6), 1.9), ("alpha3", (2, 3, 5, 4), 3.0)):
        case = new(f"coupling_inverse.{name}", "coupling_inverse", alpha=alpha)
        y, u = case.map("y", shape, 2.0), case.map("u", (*shape[:3], 2 * shape[3]), 2.0)
        x, log_det = operators.coupling_inverse(y, u, case.vector("gamma", 1, 0.05, 0.3), alpha)
        case.finish({"x": x, "log_det": log_det}, {})


def resizes(new):
    sizes = (
        ("x8", (1, 3, 4, 1), [24, 32]),
        ("up", (2, 5, 7, 3), [11, 9]),
        ("down", (2, 13, 11, 2), [5, 7]),
        ("eighth", (1, 32, 24, 1), [4, 3]),
    )
    for mode in ("bilinear", "bicubic"):
        for name, shape, size in sizes:
            case = new(f"resize_{mode}.{name}", f"resize_{mode}", size=size)
            x = case.map("x", shape)
            case.finish({"y": F.interpolate(x, size=size, mode=mode, align_corners=False)}, {})


def adam(new):
    for name, rate, decay in (("paper", 2e-4, 1e-5), ("fast", 1e-2, 0.1)):
        case = new(
            f"adam.{name}", "adam", lr=rate, weight_decay=decay, beta1=0.9, beta2=0.999, eps=1e-8, steps=5
        )
        start, gradients = case.vector("p", 37), torch.from_numpy(case.array("g", (5, 37), 0.1)).double()
        parameter = torch.nn.Parameter(start.detach().clone())
        optimiser = torch.optim.Adam([parameter], lr=rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay)
        history = []
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimiser.step()
            history.append(parameter.detach().clone())
        state = optimiser.state[parameter]
        case.output("p_after", torch.stack(history))  # [step, element]
        case.output("m_after", state["exp_avg"])
        case.output("v_after", state["exp_avg_sq"])


def write(folder):
    """operators.safetensors; its metadata `cases` is the JSON list of cases."""
    store, cases = Store("every operator, forward and backward, computed in f64"), []

    def new(name, op, **params):
        return Case(store, cases, name, op, **params)

    for group in (convolutions, batch_norms, pointwise, reductions, channels, couplings, resizes, adam):
        group(new)
    store.add("generator.check", generator.tensor("generator.check", (8,)))  # bound 1, offset 0
    store.metadata["cases"] = json.dumps(cases)
    store.write(folder / "operators.safetensors")
