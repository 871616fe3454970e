"""Masks, packs, the batches cut from them, and the PNG of the grid."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from models.weights.checkpoint import save_safetensors
from training import masks, pack, validate
from training.data import Data


def test_masks_cover_some_but_at_most_half_and_are_the_same_again():
    bank = masks.bank(40, 64, 9)
    shares = np.unpackbits(bank, axis=1).mean(axis=1)
    assert shares.min() > 0
    assert shares.max() <= 0.5
    assert 0.05 < shares.mean() < 0.4
    assert np.array_equal(bank, masks.bank(40, 64, 9))
    assert not np.array_equal(bank, masks.bank(40, 64, 10))


def test_boxes_are_made_of_rows_and_columns():
    mask = masks.box(64, 1)
    assert len(np.unique(mask[mask.any(1)], axis=0)) <= 6


def test_the_held_out_photos_do_not_depend_on_the_others():
    names = [f"{i}.jpg" for i in range(200)]
    kept = pack.held_out(names)
    assert 4 <= len(kept) <= 30
    assert kept == pack.held_out(names[::-1])
    assert set(pack.held_out(names[:100])) == set(kept) & set(names[:100])


def test_no_held_out_photo_is_trained_on(packed, photos):
    tensors, metadata = packed
    kept = json.loads(metadata["held_out"])
    assert int(metadata["train_photos"]) == len(tensors["sizes"]) == 8 - len(kept)
    shapes = {tuple(s) for s in tensors["sizes"].tolist()}  # every photo has a shape of its own
    for name in kept:
        with Image.open(photos / name) as picture:
            assert picture.size[::-1] not in shapes
    assert json.loads(metadata["licences"]) == {"CC0-1.0": 8}


def test_too_few_photos_are_refused(tmp_path):
    with pytest.raises(pack.PackError, match="at least two"):
        pack.make([tmp_path], side=64, masks=1)


def test_batches_are_pieces_of_the_photos(data):
    image, mask = data.batch(6, torch.Generator().manual_seed(2))
    assert image.shape == (6, 3, 64, 64)
    assert mask.shape == (6, 1, 64, 64)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    crops = (image * 255).round().byte()
    whole = [
        data.photos[start : start + h * w * 3].view(h, w, 3).permute(2, 0, 1)
        for start, (h, w) in zip(data.starts.tolist(), data.sizes.tolist(), strict=True)
    ]
    for crop in crops:
        assert any(_contains(photo, crop) or _contains(photo, crop.flip(2)) for photo in whole)


def _contains(photo, crop):
    windows = photo.unfold(1, 64, 1).unfold(2, 64, 1)  # 3 y x 64 64
    return bool((windows == crop[:, None, None]).all(dim=(0, 3, 4)).any()) if windows.numel() else False


def test_a_pack_survives_its_file_and_others_are_refused(packed, data, tmp_path):
    save_safetensors(packed[0], tmp_path / "pack", packed[1])
    again = Data.read(tmp_path / "pack", torch.device("cpu"))
    assert torch.equal(again.photos, data.photos)
    assert again.metadata == data.metadata
    (tmp_path / "other").write_bytes(b"no pack at all")
    with pytest.raises(pack.PackError, match=r"training\.pack"):
        Data.read(tmp_path / "other", torch.device("cpu"))


def test_the_grid_is_a_png(picture):
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(validate.png(picture)))), picture)
