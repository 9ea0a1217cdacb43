"""EfficientNet-B0 up to block 10: 112 channels at stride 16, in timm's names, and its f16 file."""

import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

CHANNELS, STRIDE = 112, 16
EARLIER = (16, 24, 40, 80)  # channels of the stages before the last
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """Normalised pictures [N,3,H,W] -> features [N,112,H/16,W/16].

    `stages` gives what each stage makes, the features last.
    """

    def __init__(self):
        super().__init__()
        whole = timm.create_model("tf_efficientnet_b0", drop_path_rate=0.0)
        self.conv_stem, self.bn1, self.blocks = whole.conv_stem, whole.bn1, whole.blocks[:5]

    def stages(self, pictures):
        made = [self.bn1(self.conv_stem(pictures))]
        for stage in self.blocks:
            made.append(stage(made[-1]))
        return made[1:]

    def forward(self, pictures):
        return self.stages(pictures)[-1]


def normalise(pictures):
    """[N,3,H,W] in 0..1 as networks of ImageNet want them."""
    mean, std = (torch.tensor(v, device=pictures.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (pictures - mean) / std


def save(network, path, notes):
    """f16, without `num_batches_tracked`; written beside and renamed."""
    tensors = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in network.state_dict().items()
        if "num_batches_tracked" not in name
    }
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} is not finite in f16")
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={key: str(value) for key, value in notes.items()})
    part.rename(path)


def load(path):
    network = Backbone()
    tensors = {name: value.float() for name, value in load_file(path).items()}
    result = network.load_state_dict(tensors, strict=False)
    missing = [name for name in result.missing_keys if "num_batches_tracked" not in name]
    if missing or result.unexpected_keys:
        raise ValueError(f"{path}: missing {missing}, unexpected {result.unexpected_keys}")
    return network.eval()
