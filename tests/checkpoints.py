"""LaMa checkpoints of any size in every layout there is, for tests that read them."""

import collections
import warnings

import torch
from safetensors.torch import save_file

from models.networks.lama.model import Lama, LamaConfig

BIG = LamaConfig(64, 3, 18, 384)
SMALL = LamaConfig(8, 3, 2, 48)


def shapes(config):
    with torch.device("meta"):
        return {k: tuple(v.shape) for k, v in Lama(config).state_dict().items() if "num_batches" not in k}


def state_of(config, seed=0):
    """A state dict with cheap values, different in every tensor."""
    numbers = torch.rand(4096, generator=torch.Generator().manual_seed(seed))
    return {
        key: numbers.roll(i).repeat(-(-torch.Size(shape).numel() // 4096))[: torch.Size(shape).numel()].view(shape)
        for i, (key, shape) in enumerate(shapes(config).items())
    }


class Predictor(torch.nn.Module):
    """The module tree of the published TorchScript archive: `model.generator.model.N`."""

    def __init__(self, config, state):
        super().__init__()
        with torch.device("meta"):
            generator = Lama(config)
        missing = generator.load_state_dict(state, strict=False, assign=True).missing_keys
        for key in missing:  # num_batches_tracked
            parent = generator.get_submodule(key.rpartition(".")[0])
            parent.num_batches_tracked = torch.tensor(7)
        self.model = torch.nn.Module()
        self.model.generator = generator
        self.model.discriminator = torch.nn.Conv2d(3, 4, 3)

    def forward(self, image, mask):
        return self.model.generator.rear(self.model.generator.front(image, mask))


def write_torchscript(path, config, state):
    module = Predictor(config, state).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; the published file is one all the same
        traced = torch.jit.trace(module, (torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)), check_trace=False)
        torch.jit.save(traced, str(path))


def write_lightning(path, config, state):
    values = {f"generator.{k}": v for k, v in state.items()}
    values |= {f"generator.{k}": torch.tensor(7) for k in counters(config)}
    values |= {f"discriminator.model0.{i}.weight": torch.rand(8, 8, 4, 4) for i in range(3)}
    values["loss_resnet_pl.impl.conv1.weight"] = torch.rand(16, 3, 7, 7)
    torch.save(
        {
            "epoch": 39,
            "global_step": 1_000_000,
            "pytorch-lightning_version": "1.2.9",
            "state_dict": collections.OrderedDict(values),
            "optimizer_states": [{"state": {0: {"exp_avg": torch.rand(100, 100)}}}],
        },
        path,
    )


def write_safetensors(path, config, state):
    save_file({f"any.prefix.{k}": v for k, v in state.items()}, path, {"format": "pt"})


def write_legacy(path, config, state):
    torch.save({f"generator.{k}": v for k, v in state.items()}, path, _use_new_zipfile_serialization=False)


def counters(config):
    with torch.device("meta"):
        return [k for k in Lama(config).state_dict() if "num_batches" in k]


WRITERS = {
    "safetensors": write_safetensors,
    "lightning": write_lightning,
    "torchscript": write_torchscript,
    "torch": write_legacy,
}
PREFIXES = {
    "safetensors": "any.prefix.",
    "lightning": "generator.",
    "torchscript": "model.generator.",
    "torch": "generator.",
}


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(got[key], value), key
