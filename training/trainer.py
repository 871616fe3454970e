"""One training run: its state, a step, checkpoints that continue bit for bit, the log."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.perception import Backbone
from models.lama import Lama
from training import losses, validate
from training.config import Config, ConfigError, check_resumable
from training.data import Data

CHECKPOINT, COMPACT, LOG = "checkpoint.pt", "compact.pt", "log.jsonl"


class TrainingError(RuntimeError):
    """A run that cannot begin or go on; the message says why."""


def read_state(folder: Path) -> dict[str, Any]:
    """A run's checkpoint, or its compact one when that is all there is. Raises TrainingError."""
    for path in (folder / CHECKPOINT, folder / COMPACT):
        if path.exists():
            try:
                found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return found
            except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
                raise TrainingError(f"{path} is damaged ({error}): delete it, or fetch it again") from None
    raise TrainingError(f"{folder} has no {CHECKPOINT} or {COMPACT}: nothing to go on from")


class Trainer:
    """Generator, its average, discriminator, optimisers and the random generator, at a step."""

    def __init__(
        self, config: Config, data: Data, out: Path, *, lpips: Path | None = None, state: dict[str, Any] | None = None
    ) -> None:
        if lpips is None and config.perceptual:
            raise ConfigError("perceptual is on and needs --lpips DIR (vgg16.safetensors); or --set perceptual=0")
        if data.side % 8 or data.side < 32:
            raise ConfigError(f"crops are {data.side} pixels: the network needs multiples of 8, at least 32")
        self.config, self.data, self.out, self.device = config, data, out, data.device
        self.vgg = Backbone(lpips, "vgg16", data.device) if lpips and config.perceptual else None
        self.alex = Backbone(lpips, "alexnet", data.device) if lpips else None
        self.rng = torch.Generator().manual_seed(config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.generator = Lama(config.lama)
            self.discriminator = losses.Discriminator(config.discriminator_channels, config.discriminator_layers)
        self.ema = copy.deepcopy(self.generator).requires_grad_(False).to(self.device).eval()
        self.generator.to(self.device).train()
        self.discriminator.to(self.device).train()
        betas = (0.5, 0.999)
        self.optimisers = (
            torch.optim.Adam(self.generator.parameters(), config.learning_rate, betas),
            torch.optim.Adam(self.discriminator.parameters(), config.discriminator_learning_rate, betas),
        )
        self.step, self.warm_from = 0, 0
        self.yardsticks: dict[str, dict[str, float]] = {}
        self.scores: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}
        out.mkdir(parents=True, exist_ok=True)
        if state is not None:
            self._restore(state)
        (out / "config.toml").write_text(config.to_toml(), encoding="utf-8")

    def _restore(self, state: dict[str, Any]) -> None:
        check_resumable(Config(**state["config"]), self.config)
        for name in ("generator", "ema", "discriminator"):
            module: nn.Module = getattr(self, name)
            module.load_state_dict(state[name])
        for optimiser, saved in zip(self.optimisers, state.get("optimisers", ()), strict=False):
            rates = [group["lr"] for group in optimiser.param_groups]
            optimiser.load_state_dict(saved)
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate
        self.rng.set_state(state["rng"])
        self.step, self.yardsticks, self.scores = state["step"], state["yardsticks"], state["scores"]
        self.warm_from = state["warm_from"] if "optimisers" in state else self.step
        self._sums = {k: v.to(self.device) for k, v in state["sums"].items()}
        log = self.out / LOG
        if log.exists():  # what was logged after the checkpoint happens again
            lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
            _write(log, "".join(x for x in lines if x.endswith("\n") and json.loads(x)["step"] <= self.step).encode())

    def state(self, *, compact: bool = False) -> dict[str, Any]:
        """All that a run is. compact: weights in half precision, without the optimisers' moments."""

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
        """Write the checkpoint: complete or not at all; TrainingError when the weights are no longer finite."""
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
        """One step of both networks; logs the mean losses every `log_every` steps."""
        c = self.config
        warm = min(1.0, (self.step - self.warm_from + 1) / c.warmup_steps)
        for optimiser, rate in zip(self.optimisers, (c.learning_rate, c.discriminator_learning_rate), strict=True):
            optimiser.param_groups[0]["lr"] = rate * warm
        image, mask = self.data.batch(c.batch, self.rng)
        y, x = (int(n) for n in torch.randint(c.perceptual_shift, (2,), generator=self.rng))
        use_bf16 = c.bf16 and self.device.type == "cuda"
        terms: dict[str, Tensor] = {}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=use_bf16):
            made = self.generator.rear(self.generator.front(image, mask))
        made = made.float()
        adversarial = bool(c.adversarial or c.feature_matching)
        if adversarial:
            self._discriminate(image, made.detach(), mask, terms, use_bf16)
        error = (made - image).abs()
        weighted: list[Tensor] = []

        def add(name: str, weight: float, value: Tensor) -> None:
            terms[name] = value.detach()
            weighted.append(weight * value)

        add("l1_known", c.l1_known, (error * (1 - mask)).mean())
        add("l1_hole", c.l1_hole, (error * mask).mean())
        with torch.autocast(self.device.type, torch.bfloat16, enabled=use_bf16):
            if self.vgg is not None:
                add("perceptual", c.perceptual, losses.perceptual(self.vgg, made, image, (y, x)))
            if adversarial:
                self.discriminator.requires_grad_(False)
                logits, features = self.discriminator(made)
                with torch.no_grad():
                    _, wanted = self.discriminator(image)
                add("adversarial", c.adversarial, losses.generator_loss(logits, mask))
                add("feature_matching", c.feature_matching, losses.feature_matching(features, wanted))
                self.discriminator.requires_grad_(True)
        loss = torch.stack(weighted).sum()
        terms["generator"] = loss.detach()
        self.optimisers[0].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimisers[0].step()
        self._average()
        self.step += 1
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
        if self.step % c.log_every == 0:
            self._log_losses()

    def _discriminate(
        self, image: Tensor, made: Tensor, mask: Tensor, terms: dict[str, Tensor], use_bf16: bool
    ) -> None:
        """The discriminator's step."""
        c = self.config
        with torch.autocast(self.device.type, torch.bfloat16, enabled=use_bf16):
            real, fake = self.discriminator(image)[0], self.discriminator(made)[0]
        loss = losses.discriminator_loss(real, fake, mask)
        terms["discriminator"] = loss.detach()
        if c.r1 and self.step % c.r1_every == 0:
            loss = loss + c.r1 * c.r1_every * losses.r1(self.discriminator, image)
        self.optimisers[1].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimisers[1].step()

    @torch.no_grad()
    def _average(self) -> None:
        """EMA of the weights, slower as the run gets longer; BatchNorm's statistics are running means already."""
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        averages: list[Tensor] = list(self.ema.parameters())
        weights: list[Tensor] = list(self.generator.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for average, buffer in zip(self.ema.buffers(), self.generator.buffers(), strict=True):
            average.copy_(buffer)

    def _log_losses(self) -> None:
        means = {name: float(value) / self.config.log_every for name, value in self._sums.items()}
        self._sums = {}
        if not all(math.isfinite(value) for value in means.values()):
            raise self._diverged(f"losses ({means})")
        self.log({"losses": means})

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"step {self.step}: {what} are no longer finite: go on from the last checkpoint with a smaller "
            "learning_rate"
        )

    def validate(self) -> dict[str, float]:
        """Score the average on the validation set; writes the grid and the log."""
        if not self.yardsticks:
            self.yardsticks = validate.yardsticks(self.data, self.alex)
            self.log({"yardsticks": self.yardsticks})
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
