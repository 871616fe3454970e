"""The hyperparameters of a training run: one dataclass, read from one TOML file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from models.networks.lama.model import LamaConfig


class ConfigError(ValueError):
    """A configuration that cannot be used; the message says which key and what it takes."""


@dataclass(frozen=True)
class Config:
    """The recipe. A loss weight multiplies its term; 0 leaves the term out."""

    # The network (fixed for a run)
    ngf: int = 32  # channels after the first convolution
    blocks: int = 9  # residual blocks
    global_share: float = 0.75  # of the channels between the stages
    discriminator_channels: int = 64
    discriminator_layers: int = 3
    seed: int = 1
    # The optimisation
    steps: int = 50_000
    batch: int = 16
    learning_rate: float = 1e-3
    discriminator_learning_rate: float = 1e-4
    warmup_steps: int = 200  # the learning rates rise linearly over these; again after compact.pt, which has no moments
    decay_share: float = 0.3  # the last share of a run, in which the learning rates fall to a tenth (half a cosine)
    ema_decay: float = 0.999
    bf16: bool = True  # autocast, on CUDA only; the FFT stays in float32
    # The losses
    l1_known: float = 10.0
    l1_hole: float = 2.0
    perceptual: float = 60.0  # LPIPS (VGG-16); needs --lpips
    perceptual_shift: int = 8  # pixels by which the compared window is smaller than the crop; its place is random
    adversarial: float = 10.0
    feature_matching: float = 100.0
    r1: float = 0.001
    r1_every: int = 4  # steps; the term is multiplied by this number
    # What is written when, in steps
    log_every: int = 50
    validate_every: int = 2000
    save_every: int = 1000

    def __post_init__(self) -> None:
        for name, low in (("ngf", 1), ("blocks", 1), ("batch", 1), ("discriminator_channels", 8), ("steps", 1)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} = {getattr(self, name)}: it must be at least {low}")
        for name in ("r1_every", "log_every", "validate_every", "save_every", "warmup_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: it must be at least 1")
        zero_or_more = ("l1_known", "l1_hole", "perceptual", "adversarial", "feature_matching", "r1", "learning_rate")
        for name in (*zero_or_more, "perceptual_shift"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} = {getattr(self, name)}: it must be zero or more")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay = {self.ema_decay}: it must be in [0, 1)")
        if not 0 <= self.decay_share <= 1:
            raise ConfigError(f"decay_share = {self.decay_share}: it must be in [0, 1]")
        if not 0 < self.global_share < 1:
            raise ConfigError(f"global_share = {self.global_share}: it must be between 0 and 1")
        if not 1 <= self.discriminator_layers <= 4:
            raise ConfigError(f"discriminator_layers = {self.discriminator_layers}: choose 1 to 4")
        if self.discriminator_channels % 8:
            raise ConfigError(f"discriminator_channels = {self.discriminator_channels}: it must be a multiple of 8")

    @property
    def lama(self) -> LamaConfig:
        """The shape of the generator. Its global part is even, because the spectral transform halves it."""
        return LamaConfig(self.ngf, 3, self.blocks, int(self.ngf * 8 * self.global_share) // 2 * 2)

    def to_toml(self) -> str:
        """Return the text of a file that `read` turns into this."""
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in asdict(self).items())


FIXED = ("ngf", "blocks", "global_share", "discriminator_channels", "discriminator_layers", "seed")


def read(path: Path | None, overrides: Sequence[str] = (), base: Config | None = None) -> Config:
    """Read the configuration from a TOML file, or from `base` or the defaults, then apply `key=value` overrides.

    Raises ConfigError for a file that cannot be read, an unknown key, a wrong type or a value out of bounds.
    """
    values: dict[str, object] = {}
    texts = [] if path is None else [(str(path), _text(path))]
    for item in overrides:
        if "=" not in item:
            raise ConfigError(f"--set {item}: write it as key=value")
        texts.append((f"--set {item}", item))
    for origin, text in texts:
        try:
            values.update(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{origin} is not TOML: {error}") from None
    types = {field.name: type(field.default) for field in fields(Config)}
    for key, value in values.items():
        if key not in types:
            raise ConfigError(f"unknown key {key!r}: known are {', '.join(types)}")
        wanted = types[key]
        if wanted is float and type(value) is int:
            values[key] = float(value)
        elif type(value) is not wanted:
            raise ConfigError(f"{key} = {value!r}: it must be of type {wanted.__name__}")
    return replace(base or Config(), **values)  # type: ignore[arg-type]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def check_resumable(old: Config, new: Config) -> None:
    """Raise ConfigError when `new` cannot continue a run of `old`."""
    for key in FIXED:
        if getattr(old, key) != getattr(new, key):
            raise ConfigError(
                f"{key} was {getattr(old, key)} when this run began and cannot become {getattr(new, key)}: "
                "leave it as it was, or start another run with another --out"
            )
