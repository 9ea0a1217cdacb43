"""Changes to whole products (more variety from what was drawn) and to single pictures (what features should ignore)."""

import torch
import torch.nn.functional as F


def product(pictures, masks):
    """Four pictures of each product [E,4,3,S,S] and masks [E,S,S]: turned, cropped, recoloured, all four alike."""
    count, _, _, size, _ = pictures.shape
    everything = torch.cat([pictures.flatten(1, 2), masks[:, None]], 1)
    if torch.rand(()) < 0.5:
        everything = everything.flip(-1)
    everything = torch.rot90(everything, int(torch.randint(4, ())), (-2, -1))
    if torch.rand(()) < 0.7:  # a crop, the same for the whole batch
        side = int(size * (0.6 + 0.4 * torch.rand(())))
        y, x = (int(torch.randint(size - side + 1, ())) for _ in range(2))
        everything = everything[..., y : y + side, x : x + side]
        everything = F.interpolate(everything, size=(size, size), mode="bilinear", antialias=True)
    pictures, masks = everything[:, :-1].unflatten(1, (4, 3)), everything[:, -1]
    order = torch.stack([torch.randperm(3) for _ in range(count)])
    pictures = torch.gather(pictures, 2, order[:, None, :, None, None].expand_as(pictures))
    draw = lambda chance: (torch.rand(count, 1, 1, 1, 1) < chance).float()
    pictures = torch.lerp(pictures, 1 - pictures, draw(0.2))
    grey = pictures.mean(2, keepdim=True).expand_as(pictures)
    pictures = torch.lerp(pictures, grey, draw(0.35) + (1 - draw(0.5)) * 0.5 * torch.rand(count, 1, 1, 1, 1))
    pictures = pictures.clamp(1e-4, 1) ** torch.exp(0.5 * torch.randn(count, 1, 1, 1, 1))
    return pictures, masks


def single(pictures):
    """[E,4,3,S,S]: (exposure, tint and noise of each picture by itself, the same without the noise)."""
    count = pictures.shape[:2]
    gain = 1 + 0.04 * torch.randn(*count, 1, 1, 1) + 0.01 * torch.randn(*count, 3, 1, 1)
    clean = (pictures * gain).clamp(0, 1)
    noise = torch.randn_like(pictures) * 0.02 * torch.rand(count[0], 1, 1, 1, 1)
    return (clean + noise).clamp(0, 1), clean
