"""One training run: its state, a step, checkpoints that continue bit for bit, the log."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.support.perception import Backbone
from models.errors import CheckpointError
from models.networks.lama.model import Lama, LamaConfig
from training import losses, validate
from training.config import Config, ConfigError, check_resumable
from training.cuda_graphs import GraphedStep
from training.data import Data
from training.layout import channels_last

CHECKPOINT, COMPACT, LOG = "checkpoint.pt", "compact.pt", "log.jsonl"
BETAS = (0.5, 0.999)


class TrainingError(RuntimeError):
    """A run that cannot begin or go on; the message says why."""


def read_state(folder: Path) -> dict[str, Any]:
    """Read a run's checkpoint, or its compact one if there is no other. Raises TrainingError."""
    for path in (folder / CHECKPOINT, folder / COMPACT):
        if path.exists():
            try:
                found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return found
            except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
                raise TrainingError(f"{path} is damaged ({error}): delete it, or fetch it again") from None
    raise TrainingError(f"{folder} has no {CHECKPOINT} or {COMPACT}: nothing to go on from")


@dataclass(frozen=True)
class Inputs:
    """The tensors that a step reads. They stay the same, as CUDA graphs need, and are filled for each step.

    image: Bx3xSxS in [0, 1]; mask: Bx1xSxS, 1 = hole; rows, columns: indices of the window that the perceptual term
    sees; blend: 0-d, the share of the weights that goes into their average.
    """

    image: Tensor
    mask: Tensor
    rows: Tensor
    columns: Tensor
    blend: Tensor
    line: Tensor  # 0, 1, 2 and so on: rows and columns without a shift

    @classmethod
    def of(cls, config: Config, data: Data) -> Inputs:
        """Allocate them on the data's device."""
        layout = torch.channels_last if data.device.type == "cuda" else torch.contiguous_format
        size = config.batch, 3, data.side, data.side
        image = torch.empty(size, device=data.device, memory_format=layout)
        mask = torch.empty_like(image[:, :1], memory_format=torch.contiguous_format)
        line = torch.arange(data.side - config.perceptual_shift, device=data.device)
        return cls(image, mask, line.clone(), line.clone(), torch.zeros((), device=data.device), line)

    def fill(self, image: Tensor, mask: Tensor, y: int, x: int, blend: float) -> None:
        """Copy a batch in, and set the window's place (pixels from the top and the left) and the average's weight."""
        self.image.copy_(image)
        self.mask.copy_(mask)
        torch.add(self.line, y, out=self.rows)
        torch.add(self.line, x, out=self.columns)
        self.blend.fill_(blend)

    def window(self, picture: Tensor) -> Tensor:
        """Cut out of pictures, Bx3xSxS, the window that the perceptual term sees.

        It moves from step to step, so that the grid of the backbone's strides leaves no pattern in the pictures.
        """
        return picture.index_select(2, self.rows).index_select(3, self.columns)


def _adam(network: nn.Module, cuda: bool) -> torch.optim.Adam:
    """Make an Adam whose rate is set for each step. On CUDA it is one kernel, which reads the rate from the device."""
    parameters = list(network.parameters())
    if not cuda:
        return torch.optim.Adam(parameters, 0.0, BETAS)
    rate = torch.zeros((), device=parameters[0].device)
    return torch.optim.Adam(parameters, rate, BETAS, fused=True, capturable=True)


def _set_rate(optimiser: torch.optim.Adam, rate: float) -> None:
    (group,) = optimiser.param_groups
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def _restore_adam(optimiser: torch.optim.Adam, saved: dict[str, Any]) -> None:
    """Load moments and step counts from any device; how Adam runs stays as it is here."""
    (ours,), (theirs,) = optimiser.param_groups, saved["param_groups"]
    rate = ours["lr"]
    optimiser.load_state_dict(saved | {"param_groups": [ours | {"params": theirs["params"]}]})
    optimiser.param_groups[0]["lr"] = rate
    for parameter, state in optimiser.state.items():
        for key, value in state.items():
            if value.shape == parameter.shape and value.ndim:  # in the parameter's memory format
                state[key] = torch.empty_like(parameter, requires_grad=False).copy_(value)


class Trainer:
    """A run at a step: generator, its average, discriminator, optimisers and the random generator."""

    def __init__(
        self, config: Config, data: Data, out: Path, *, lpips: Path | None = None, state: dict[str, Any] | None = None
    ) -> None:
        if lpips is None and config.perceptual:
            raise ConfigError("perceptual is on and needs --lpips DIR (vgg16.safetensors); or --set perceptual=0")
        if data.side % 8 or data.side < 32:
            raise ConfigError(f"crops are {data.side} pixels: the network needs multiples of 8, at least 32")
        if config.perceptual and data.side - config.perceptual_shift < 16:
            raise ConfigError(f"perceptual_shift = {config.perceptual_shift}: it must leave 16 of {data.side} pixels")
        self.config, self.data, self.out, self.device = config, data, out, data.device
        cuda = self.device.type == "cuda"
        self._bf16 = config.bf16 and cuda
        self.vgg = Backbone(lpips, "vgg16", data.device, half=self._bf16) if lpips and config.perceptual else None
        self.alex = Backbone(lpips, "alexnet", data.device) if lpips else None
        self.rng = torch.Generator().manual_seed(config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.generator = Lama(config.lama)
            self.discriminator = losses.Discriminator(config.discriminator_channels, config.discriminator_layers)
        for network in (self.generator, self.discriminator):
            network.to(self.device).train()
            if cuda:
                channels_last(network)
        self.ema = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.optimisers = tuple(_adam(network, cuda) for network in (self.generator, self.discriminator))
        self._inputs = Inputs.of(config, data)
        self._run = GraphedStep(self._compute, self._clear) if cuda else self._compute
        self.step, self.warm_from = 0, 0
        self.yardsticks: dict[str, dict[str, float]] = {}
        self.scores: dict[str, float] = {}
        self.means: dict[str, float] = {}  # of the losses, as last logged
        self.progress = 0.0  # share of the run's time that is over, in [0, 1]; 0 if steps alone limit it
        self._sums: dict[str, Tensor] = {}
        out.mkdir(parents=True, exist_ok=True)
        if state is not None:
            self._restore(state)
        (out / "config.toml").write_text(config.to_toml(), encoding="utf-8")

    def begin_with(self, path: Path) -> None:
        """Load the weights of an exported network of the same shape (`training.export`), before the first step.

        The discriminator starts from random weights. Raises TrainingError for any other file.
        """
        try:
            weights = load_file(path)
            config = LamaConfig.from_state(weights)
        except (OSError, SafetensorError, CheckpointError) as error:
            raise TrainingError(f"{path} is no LaMa as training.export writes it ({error})") from None
        if config != self.config.lama:
            raise TrainingError(f"{path} has another shape, {config}: this run's is {self.config.lama}")
        for network in (self.generator, self.ema):
            network.load_state_dict(weights, strict=False)  # the exported file has no count of batches

    def _restore(self, state: dict[str, Any]) -> None:
        check_resumable(Config(**state["config"]), self.config)
        for name in ("generator", "ema", "discriminator"):
            module: nn.Module = getattr(self, name)
            module.load_state_dict(state[name])
        for optimiser, saved in zip(self.optimisers, state.get("optimisers", ()), strict=False):
            _restore_adam(optimiser, saved)
        self.rng.set_state(state["rng"])
        self.step, self.yardsticks, self.scores = state["step"], state["yardsticks"], state["scores"]
        self.warm_from = state["warm_from"] if "optimisers" in state else self.step
        self._sums = {k: v.to(self.device) for k, v in state["sums"].items()}
        log = self.out / LOG
        if log.exists():  # steps after the checkpoint are done and logged again
            lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
            _write(log, "".join(x for x in lines if x.endswith("\n") and json.loads(x)["step"] <= self.step).encode())

    def state(self, *, compact: bool = False) -> dict[str, Any]:
        """Return everything a run consists of. compact: weights in half precision, no moments of the optimisers."""
        self._share_statistics()

        def weights(module: nn.Module) -> dict[str, Tensor]:
            half = {k: v.half() if v.is_floating_point() and v.ndim > 1 else v for k, v in module.state_dict().items()}
            return half if compact else module.state_dict()

        found = {
            "config": asdict(self.config),
            "data": self.data.metadata,
            "step": self.step,
            "warm_from": self.warm_from,
            "generator": weights(self.generator),
            "ema": weights(self.ema),
            "discriminator": weights(self.discriminator),
            "rng": self.rng.get_state(),
            "sums": dict(self._sums),
            "yardsticks": self.yardsticks,
            "scores": self.scores,
        }
        return found if compact else found | {"optimisers": [o.state_dict() for o in self.optimisers]}

    def save(self, *, compact: bool = False) -> None:
        """Write the checkpoint completely or not at all. Raises TrainingError when a weight is not finite."""
        if not all(bool(weight.isfinite().all()) for weight in self.generator.parameters()):
            raise self._diverged("weights")
        path = self.out / (COMPACT if compact else CHECKPOINT)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save(self.state(compact=compact), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def train_step(self) -> None:
        """Train both networks for a step. Every `log_every` steps, wait for the device and log the mean losses."""
        c, inputs = self.config, self._inputs
        factor = min(1.0, (self.step - self.warm_from + 1) / c.warmup_steps) * self._decay()
        for optimiser, rate in zip(self.optimisers, (c.learning_rate, c.discriminator_learning_rate), strict=True):
            _set_rate(optimiser, rate * factor)
        image, mask = self.data.batch(c.batch, self.rng)
        y, x = torch.randint(c.perceptual_shift + 1, (2,), generator=self.rng).tolist()
        blend = 1 - min(c.ema_decay, (1 + self.step) / (10 + self.step))
        inputs.fill(image, mask, y, x, blend)
        self._run(bool(c.r1) and self.step % c.r1_every == 0)
        self.step += 1
        if self.step % c.log_every == 0:
            self._log_losses()

    def _decay(self) -> float:
        """Return the factor of the learning rates: 1, then down to 0.1 along half a cosine at the end of the run."""
        share = self.config.decay_share
        left = 1 - min(1.0, max(self.progress, self.step / self.config.steps))
        return 1.0 if left >= share else 0.1 + 0.45 * (1 - math.cos(math.pi * left / share))

    def _compute(self, r1: bool) -> None:
        """Compute a step. It reads only the inputs' tensors and changes only tensors, in place.

        So one CUDA graph serves every step of its kind. r1: whether the step has that term.
        """
        c, inputs = self.config, self._inputs
        image, mask = inputs.image, inputs.mask
        terms: dict[str, Tensor] = {}
        with self._autocast():
            made = self.generator.rear(self.generator.front(image, mask))
        made = made.float()
        adversarial = bool(c.adversarial or c.feature_matching)
        wanted = self._discriminate(image, made.detach(), mask, terms, r1) if adversarial else []
        error = (made - image).abs()
        weighted: list[Tensor] = []

        def add(name: str, weight: float, value: Tensor) -> None:
            terms[name] = value.detach()
            weighted.append(weight * value)

        add("l1_known", c.l1_known, (error * (1 - mask)).mean())
        add("l1_hole", c.l1_hole, (error * mask).mean())
        with self._autocast():
            if self.vgg is not None:
                add("perceptual", c.perceptual, losses.perceptual(self.vgg, inputs.window(made), inputs.window(image)))
            if adversarial:
                self.discriminator.requires_grad_(False)
                logits, features = self.discriminator(made)
                add("adversarial", c.adversarial, losses.generator_loss(logits, mask))
                add("feature_matching", c.feature_matching, losses.feature_matching(features, wanted))
        loss = torch.stack(weighted).sum()
        terms["generator"] = loss.detach()
        self.optimisers[0].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimisers[0].step()
        self._average()
        if not self._sums:
            self._sums = {name: torch.zeros_like(value) for name, value in terms.items()}
        torch._foreach_add_([self._sums[name] for name in terms], list(terms.values()))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16)

    def _discriminate(
        self, image: Tensor, made: Tensor, mask: Tensor, terms: dict[str, Tensor], r1: bool
    ) -> list[Tensor]:
        """Train the discriminator for a step. Return its features of the real pictures from before the update."""
        c = self.config
        self.discriminator.requires_grad_(True)
        with self._autocast():  # in one batch, because its normalisation does not mix pictures
            logits, features = self.discriminator(torch.cat([image, made]))
        real, fake = logits.chunk(2)
        loss = losses.discriminator_loss(real, fake, mask)
        terms["discriminator"] = loss.detach()
        if r1:
            loss = loss + c.r1 * c.r1_every * losses.r1(self.discriminator, image)
        self.optimisers[1].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimisers[1].step()
        return [feature.detach()[: len(image)] for feature in features]

    def _clear(self) -> None:
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _average(self) -> None:
        """Update the exponential moving average of the weights, which becomes slower over the run."""
        averages: list[Tensor] = list(self.ema.parameters())
        weights: list[Tensor] = list(self.generator.parameters())
        change = torch._foreach_sub(weights, averages)
        torch._foreach_mul_(change, self._inputs.blend)
        torch._foreach_add_(averages, change)

    @torch.no_grad()
    def _share_statistics(self) -> None:
        """Copy BatchNorm's statistics into the average: they are running means already."""
        for average, buffer in zip(self.ema.buffers(), self.generator.buffers(), strict=True):
            average.copy_(buffer)

    def _log_losses(self) -> None:
        totals = torch.stack(list(self._sums.values())).tolist()
        means = {name: total / self.config.log_every for name, total in zip(self._sums, totals, strict=True)}
        torch._foreach_zero_(list(self._sums.values()))
        if not all(math.isfinite(value) for value in means.values()):
            raise self._diverged(f"losses ({means})")
        self.means = means
        self.log({"losses": means})

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"step {self.step}: {what} are no longer finite: go on from the last checkpoint with a smaller "
            "learning_rate"
        )

    def validate(self) -> dict[str, float]:
        """Score the averaged network on the validation set, and write the grid and the log."""
        # cuDNN's trials pay off for the shapes of training alone.
        trials, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
        try:
            return self._validate()
        finally:
            torch.backends.cudnn.benchmark = trials

    def _validate(self) -> dict[str, float]:
        if not self.yardsticks:
            self.yardsticks = validate.yardsticks(self.data, self.alex)
            if self.yardsticks:
                self.log({"yardsticks": self.yardsticks})
        self._share_statistics()
        filled = validate.fill(lambda image, mask: self.ema.rear(self.ema.front(image, mask)), self.data)
        self.scores = validate.scores(filled, self.data, self.alex) | {"step": float(self.step)}
        validate.write_grid(filled, self.data, self.out / f"grid-{self.step:06d}.png")
        self.log({"validation": self.scores})
        return self.scores

    def log(self, entry: dict[str, object]) -> None:
        """Append one JSON line, with the step."""
        with (self.out / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.step, **entry}) + "\n")


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
