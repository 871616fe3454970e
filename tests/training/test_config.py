"""One TOML of hyperparameters; what cannot be meant is an error."""

from pathlib import Path

import pytest

import training
from models.networks.lama.model import Lama
from training.config import Config, ConfigError, check_resumable, read
from training.losses import Discriminator


def test_a_file_and_overrides(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("ngf = 16\nr1 = 1\n", encoding="utf-8")
    config = read(path, ["blocks=6", "bf16=false", "ngf=24"])
    assert (config.ngf, config.blocks, config.r1, config.bf16) == (24, 6, 1.0, False)


def test_what_is_written_reads_back(tmp_path):
    config = Config(ngf=16, learning_rate=1e-5, bf16=False)
    (tmp_path / "c.toml").write_text(config.to_toml(), encoding="utf-8")
    assert read(tmp_path / "c.toml") == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blokcs=3", "unknown key 'blokcs'"),
        ("blocks=3.5", "must be of type int"),
        ("blocks=true", "must be of type int"),
        ("blocks=0", "at least 1"),
        ("r1=-1", "zero or more"),
        ("ema_decay=1.0", "ema_decay"),
        ("decay_share=1.5", "decay_share"),
        ("blocks", "key=value"),
        ("blocks=", "not TOML"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(ConfigError, match=message):
        read(None, [text])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "none.toml")


def test_a_run_keeps_its_network():
    check_resumable(Config(), Config(steps=9, learning_rate=1e-4))
    with pytest.raises(ConfigError, match="ngf was 32"):
        check_resumable(Config(), Config(ngf=16))


@pytest.mark.parametrize("blocks", [6, 9])
def test_the_network_has_four_to_eight_million_parameters(blocks):
    count = sum(p.numel() for p in Lama(Config(blocks=blocks).lama).parameters())
    assert 4e6 <= count <= 8e6
    assert sum(p.numel() for p in Discriminator(64, 4).parameters()) < 12e6


def test_the_recipe_in_the_repository_is_the_defaults():
    assert read(Path(training.__file__).parent / "lama-32x9.toml") == Config()
