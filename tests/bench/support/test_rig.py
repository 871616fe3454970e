"""What bench.service stands on: its pictures are what they say, and its percentiles too."""

import pytest

from bench.support import rig
from images.read import probe


def test_a_padded_png_is_a_valid_picture_of_just_that_size():
    made = rig.padded(64, 96, 200_000)
    assert len(made.image) == 200_000
    assert (probe(made.image).width, probe(made.image).height) == (96, 64)


def test_deep_noise_is_a_16_bit_tiff_that_does_not_compress():
    made = rig.deep_noise(40, 50)
    header = probe(made.image)
    assert (header.format, header.width, header.height) == ("tiff", 50, 40)
    assert len(made.image) >= 40 * 50 * 6


@pytest.mark.parametrize(("percent", "value"), [(50, 2), (75, 3), (99, 4), (100, 4), (0, 1)])
def test_a_percentile_is_one_of_the_values(percent, value):
    assert rig.percentile([4, 1, 3, 2], percent) == value


def test_a_worker_that_does_not_start_says_why(tmp_path, monkeypatch):
    def never(count):
        service.workers[-1].wait()
        raise AssertionError("1 workers did not come true")

    with rig.Rig(tmp_path, device="cpu", network="nowhere") as service:
        monkeypatch.setattr(service, "wait_for_workers", never)
        with pytest.raises(RuntimeError, match="unknown network 'nowhere'"):
            service.start("worker")
