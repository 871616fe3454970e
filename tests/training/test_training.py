"""Training itself, on a network of some thousands of parameters: it learns, goes on as if never stopped, exports."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import models
from bench.support.perception import Backbone
from models.networks.lama.model import Lama
from models.weights.checkpoint import read_checkpoint, save_safetensors
from tests import support
from training import losses, train, validate
from training.config import Config, ConfigError
from training.data import Data
from training.export import export
from training.train import main
from training.trainer import Trainer, TrainingError, read_state


def entries(folder, kind):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line[kind] for line in lines if kind in line]


def test_losses_fall_when_one_crop_is_learned_by_heart(packed, tiny, tmp_path, lpips):
    tensors = dict(packed[0])
    h, w = tensors["sizes"][0].tolist()
    first = tensors["photos"][: h * w * 3].view(h, w, 3)[:64, :64]
    tensors |= {
        "photos": first.reshape(-1).contiguous(),
        "sizes": torch.tensor([[64, 64]]),
        "masks": tensors["masks"][:1],
    }
    one = Data(tensors, packed[1], torch.device("cpu"))
    trainer = Trainer(replace(tiny, ngf=8, l1_hole=10.0, log_every=5), one, tmp_path, lpips=lpips)
    for _ in range(60):
        trainer.train_step()
    logged = entries(tmp_path, "losses")
    assert set(logged[0]) >= {"l1_known", "l1_hole", "perceptual", "adversarial", "feature_matching", "discriminator"}
    assert all(np.isfinite(list(entry.values())).all() for entry in logged)
    for term in ("l1_known", "perceptual"):
        assert logged[-1][term] < 0.7 * logged[0][term], term


def test_a_resumed_run_equals_an_uninterrupted_one(data, tiny, tmp_path, lpips, equal):
    def go(trainer, steps):
        for _ in range(steps):
            trainer.train_step()
        return trainer

    straight = go(Trainer(tiny, data, tmp_path / "a", lpips=lpips), 7)
    half = go(Trainer(tiny, data, tmp_path / "b", lpips=lpips), 3)  # between two lines of the log
    half.save()
    go(half, 2)  # lost, as in a crash
    resumed = Trainer(tiny, data, tmp_path / "b", lpips=lpips, state=read_state(tmp_path / "b"))
    go(resumed, 4)
    assert equal(straight.state(), resumed.state())
    assert (tmp_path / "a" / "log.jsonl").read_text() == (tmp_path / "b" / "log.jsonl").read_text()


def test_another_seed_is_another_run(data, tiny, tmp_path, equal):
    plain = replace(tiny, perceptual=0.0)
    one, two = (Trainer(replace(plain, seed=seed), data, tmp_path / str(seed)) for seed in (1, 2))
    assert not equal(one.state()["generator"], two.state()["generator"])


def test_a_compact_checkpoint_goes_on_without_moments(data, tiny, tmp_path):
    plain = replace(tiny, perceptual=0.0)
    trainer = Trainer(plain, data, tmp_path)
    for _ in range(3):
        trainer.train_step()
    trainer.save(compact=True)
    resumed = Trainer(plain, data, tmp_path, state=read_state(tmp_path))
    assert (resumed.step, resumed.warm_from) == (3, 3)
    resumed.train_step()
    assert all(torch.isfinite(p).all() for p in resumed.generator.parameters())


def test_validation_is_the_same_again_and_leaves_training_alone(data, tiny, tmp_path, lpips, equal):
    trainer = Trainer(tiny, data, tmp_path, lpips=lpips)
    trainer.train_step()
    before = trainer.state()["rng"]
    first = trainer.validate()
    assert trainer.validate() == first
    assert set(first) == {"lpips", "l1", "step"}
    assert equal(before, trainer.state()["rng"])
    assert trainer.generator.training
    assert (tmp_path / "grid-000001.png").stat().st_size > 1000


def test_a_damaged_checkpoint_is_named(tmp_path):
    with pytest.raises(TrainingError, match="nothing to go on from"):
        read_state(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(TrainingError, match="damaged"):
        read_state(tmp_path)


def test_diverged_losses_stop_the_run(data, tiny, tmp_path):
    trainer = Trainer(replace(tiny, perceptual=0.0), data, tmp_path)
    with torch.no_grad():
        next(trainer.generator.parameters()).fill_(float("nan"))
    trainer.train_step()
    with pytest.raises(TrainingError, match="no longer finite"):
        trainer.train_step()


def test_weights_that_diverged_do_not_replace_a_good_checkpoint(data, tiny, tmp_path):
    trainer = Trainer(replace(tiny, perceptual=0.0), data, tmp_path)
    trainer.save()
    good = (tmp_path / "checkpoint.pt").read_bytes()
    with torch.no_grad():
        next(trainer.generator.parameters())[0] = float("inf")
    with pytest.raises(TrainingError, match="no longer finite"):
        trainer.save()
    assert (tmp_path / "checkpoint.pt").read_bytes() == good


def test_the_perceptual_term_needs_its_weights(data, tiny, tmp_path):
    with pytest.raises(ConfigError, match="--lpips"):
        Trainer(tiny, data, tmp_path)


def test_the_perceptual_term_is_lpips_and_has_finite_gradients(lpips):
    rng, vgg = torch.Generator().manual_seed(1), Backbone(lpips, "vgg16")
    truth = torch.rand(1, 3, 64, 64, generator=rng)
    made = (truth + 0.1 * torch.rand(1, 3, 64, 64, generator=rng)).requires_grad_()
    ours = losses.perceptual(vgg, made, truth)
    assert ours.item() == pytest.approx(vgg.distance(made.detach(), truth).mean().item(), rel=0.1)
    ours.backward()
    assert torch.isfinite(made.grad).all()
    assert losses.perceptual(vgg, truth, truth).item() == 0


def test_known_patches_are_not_called_fake():
    logits = torch.zeros(1, 1, 4, 4, requires_grad=True)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :8, :8] = 1  # the first patch
    losses.discriminator_loss(torch.zeros(1, 1, 4, 4), logits, mask).backward()
    assert logits.grad[0, 0, 0, 0] > 0  # pushed towards fake
    assert (logits.grad.flatten()[1:] < 0).all()  # towards real
    again = torch.zeros(1, 1, 4, 4, requires_grad=True)
    losses.generator_loss(again, mask).backward()
    assert again.grad[0, 0, 0, 0] < 0
    assert (again.grad.flatten()[1:] == 0).all()


def test_r1_is_the_squared_slope():
    class Linear(torch.nn.Module):
        def forward(self, image):
            return 3 * image.sum(1, keepdim=True), []

    assert losses.r1(Linear(), torch.rand(2, 3, 4, 4)).item() == pytest.approx(9 * 48)


def test_the_fft_stays_in_fp32_under_autocast():
    torch.manual_seed(0)
    network = Lama(Config(ngf=4, blocks=1).lama).train()
    image, mask = torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        made = network.rear(network.front(image, mask))
    made.float().mean().backward()
    assert torch.isfinite(made).all()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_the_command_line_trains_resumes_and_exports(packed, tmp_path, capsys):
    save_safetensors(packed[0], tmp_path / "pack", packed[1])
    sets = "ngf=4 blocks=1 batch=2 perceptual=0 discriminator_channels=8 discriminator_layers=1 save_every=2 steps=3"
    arguments = ["--pack", str(tmp_path / "pack"), "--out", str(tmp_path / "run"), "--device", "cpu"]
    main(arguments + [part for item in sets.split() for part in ("--set", item)])
    with pytest.raises(SystemExit, match="add --resume"):
        main(arguments)
    main([*arguments, "--resume", "--set", "steps=4"])
    assert "step 4:" in capsys.readouterr().out
    out = tmp_path / "network.safetensors"
    export(tmp_path / "run", out)
    metadata = read_checkpoint(out).metadata
    assert metadata["steps"] == "4"
    assert json.loads(metadata["recipe"])["ngf"] == 4
    assert "CC0-1.0" in metadata["data"]
    assert set(metadata) == {"name", "licence", "data", "steps", "recipe", "score"}
    network = models.load_network(str(out), device="cpu")
    ema = read_state(tmp_path / "run")["ema"]
    assert network.name == "lama-4x1"
    key = "model.1.ffc.convl2l.weight"
    assert torch.equal(network.state_dict()[key], ema[key].half().float())
    picture = np.random.default_rng(1).integers(0, 256, (80, 96, 3)).astype(np.uint8)
    hole = np.zeros((80, 96), bool)
    hole[20:50, 30:60] = True
    result = models.inpaint(picture, hole, network=network, preset="single-pass")
    assert np.array_equal(result.image[~hole], picture[~hole])
    assert not np.array_equal(result.image[hole], picture[hole])


def test_a_run_begins_with_an_exported_network(data, tiny, tmp_path):
    tiny = replace(tiny, perceptual=0.0)
    first = Trainer(tiny, data, tmp_path / "first")
    first.train_step()
    first.save()
    file = tmp_path / "network.safetensors"
    export(tmp_path / "first", file)
    second = Trainer(tiny, data, tmp_path / "second")
    second.begin_with(file)
    for network in (second.generator, second.ema):
        for key, value in network.named_parameters():
            average = dict(first.ema.named_parameters())[key]
            assert torch.allclose(value, average, rtol=1e-3, atol=1e-6)
    assert torch.equal(second.ema.state_dict()["model.1.bn_l.running_mean"], first.ema.model[1].bn_l.running_mean)
    second.train_step()
    with pytest.raises(TrainingError, match="another shape"):
        Trainer(replace(tiny, ngf=tiny.ngf * 2), data, tmp_path / "third").begin_with(file)
    (tmp_path / "text").write_text("weights")
    with pytest.raises(TrainingError, match="no LaMa"):
        second.begin_with(tmp_path / "text")


def test_the_exported_network_is_at_most_16_megabytes(data, tmp_path):
    trainer = Trainer(Config(perceptual=0.0), data, tmp_path)
    trainer.save()
    export(tmp_path, tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").stat().st_size <= 16e6


def test_training_on_a_pack_needs_only_torch_numpy_and_safetensors():
    blocked = ["PIL", "cv2", "rich", "platformdirs", "filelock", "pydantic", "redis", "fastapi", "httpcore2"]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); import training.train, training.export"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=support.ROOT)


def test_a_device_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SystemExit, match="--device auto"):
        main(["--pack", "none", "--out", str(tmp_path), "--device", "cuda:99"])


def test_the_rates_fall_to_a_tenth_over_the_last_part(data, tiny, tmp_path):
    trainer = Trainer(replace(tiny, perceptual=0.0, steps=10, decay_share=0.5, warmup_steps=1), data, tmp_path)
    rates = []
    for _ in range(10):
        trainer.train_step()
        rates.append(trainer.optimisers[0].param_groups[0]["lr"] / tiny.learning_rate)
    assert rates[:6] == [1.0] * 6
    assert rates[6:] == sorted(rates[6:], reverse=True)
    assert 0.1 < rates[-1] < 0.2
    trainer.progress = 1.0  # by the clock
    assert trainer._decay() == pytest.approx(0.1)
    off = Trainer(replace(tiny, perceptual=0.0, decay_share=0.0, steps=1), data, tmp_path / "off")
    off.train_step()
    assert off._decay() == 1.0


def test_a_run_ends_in_its_time_and_tells_how_it_goes(packed, tmp_path, capsys, monkeypatch):
    save_safetensors(packed[0], tmp_path / "pack", packed[1])
    monkeypatch.setattr(train, "PRINT_INTERVAL_SECONDS", 0.1)
    sets = "ngf=4 blocks=1 batch=2 perceptual=0 discriminator_channels=8 discriminator_layers=1 log_every=1"
    arguments = ["--pack", str(tmp_path / "pack"), "--out", str(tmp_path / "run"), "--device", "cpu", "--compact"]
    main([*arguments, "--minutes", "0.04", *(part for item in sets.split() for part in ("--set", item))])
    lines = capsys.readouterr().out.splitlines()
    assert "steps/s; losses discriminator" in lines[0]
    state = read_state(tmp_path / "run")
    assert state["scores"]["step"] == state["step"] > 0
    assert (tmp_path / "run" / "compact.pt").exists()


def test_yardsticks_are_what_can_be_had(data, monkeypatch, tmp_path):
    monkeypatch.setattr(validate, "BUILTIN", tmp_path / "absent")
    assert "migan" not in validate.yardsticks(data, None)


def test_a_run_without_yardsticks_gets_them_where_they_can_be_had(packed, data, tiny, tmp_path):
    save_safetensors(packed[0], tmp_path / "pack", packed[1])
    trainer = Trainer(replace(tiny, perceptual=0.0), data, tmp_path / "run")
    trainer.train_step()
    trainer.scores = {"l1": 0.1, "step": 1.0}
    trainer.save()
    assert read_state(tmp_path / "run")["yardsticks"] == {}
    main(["--pack", str(tmp_path / "pack"), "--out", str(tmp_path / "run"), "--resume", "--minutes", "0"])
    state = read_state(tmp_path / "run")
    assert state["step"] == 1
    assert state["scores"]["l1"] != 0.1
