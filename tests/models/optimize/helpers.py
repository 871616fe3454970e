"""What the tests of optimisation share: networks, and tiles of random pictures."""

import torch

from models import load_network
from models.networks.lama.model import Lama, LamaConfig
from models.optimize.loss import RefinementLoss


def lama():
    torch.manual_seed(1)
    return Lama(LamaConfig(8, 3, 2, 48)).eval().requires_grad_(False)


def migan():
    return load_network("builtin", device="cpu")


def tile(network, side, seed, device="cpu"):
    """Features and loss of a random picture."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(1, 3, side, side, generator=generator).to(device)
    hole = torch.zeros(1, 1, side, side, device=device)
    hole[..., side // 4 : side // 2, side // 4 : side // 2] = 1
    guide = torch.rand(1, 3, side // 2, side // 2, generator=generator).to(device)
    with torch.no_grad():
        z = network.front(picture, hole)
    return z, RefinementLoss.from_masks(picture, hole, guide, hole[..., ::2, ::2], (side, side), known_loss=True)


def taken(optimizer, count):
    """Losses of so many steps and the last prediction."""
    losses = [optimizer.step() for _ in range(count)]
    prediction, loss = optimizer.predict()
    return torch.stack([*losses, loss]).cpu(), prediction.cpu()
