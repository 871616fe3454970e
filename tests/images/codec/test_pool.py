import asyncio
import contextlib
import io
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from images import errors
from images.codec.limits import Limits
from images.codec.pool import CodecPool
from images.codec.process import CodecError
from images.codec.shared import SharedArray
from images.hole import find_hole, unpack_hole
from images.hole_rule import HoleRule
from images.photo import Photo
from images.read import read_image
from images.write import encode
from tests.images.picture_files import noise, progressive, saved, smooth


@pytest.fixture(scope="module")
def pool():
    with CodecPool(2) as made:
        yield made


def png(pixels, **options):
    return saved(Image.fromarray(pixels), "PNG", **options)


def a_mask(height=21, width=34):
    mask = np.zeros((height, width), np.uint8)
    mask[5:9, 7:20] = 255
    return mask


PHOTO, MASK = png(smooth()), png(a_mask())


def test_check_tells_what_a_submission_is(pool):
    found = pool.check(PHOTO, MASK)
    with found.hole as hole:
        assert (found.header.width, found.header.height, found.header.format) == (34, 21, "png")
        assert found.hole_fraction == 4 * 13 / (34 * 21)
        assert (unpack_hole(bytes(hole)) == (a_mask() > 0)).all()


def test_check_takes_files_of_any_size(pool, tmp_path):
    large = tmp_path / "large.png"
    large.write_bytes(png(noise(900, 800, 3), compress_level=0))
    assert large.stat().st_size > 1 << 20
    with large.open("rb") as image:
        found = pool.check(image, io.BytesIO(png(a_mask(900, 800))))
        found.hole.close()
        assert (found.header.width, found.header.height) == (800, 900)
        assert image.tell() == 0


def test_check_follows_the_rule(pool):
    rule = HoleRule(threshold=10, invert=True, grow_pixels=1)
    with pool.check(PHOTO, MASK, rule=rule).hole as hole:
        assert (unpack_hole(bytes(hole)) == find_hole(PHOTO, MASK, rule)).all()


def test_a_hole_of_alpha(pool):
    cut_out = np.dstack([smooth(), 255 - a_mask()])
    with pool.check(png(cut_out)).hole as hole, pool.decode(png(cut_out), alpha=True) as decoded:
        assert (unpack_hole(bytes(hole)) == (a_mask() > 0)).all()
        assert (decoded.hole.array == (a_mask() > 0)).all()
        assert decoded.facts.has_alpha


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_decode_gives_what_read_image_gives(pool, format, bits):
    pixels = smooth() if bits == 8 else noise(21, 34, 3, dtype=np.uint16)
    data = encode(Photo(pixels, "png"), pixels, format)
    expected = read_image(data)
    with pool.check(data, MASK).hole as hole, pool.decode(data, hole=hole) as decoded:
        assert decoded.pixels.array.dtype == expected.pixels.dtype
        assert (decoded.pixels.array == expected.pixels).all()
        assert (decoded.hole.array == (a_mask() > 0)).all()
        assert decoded.facts.format == format


def test_a_grey_photo_upright_with_its_exif_and_profile(pool):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    image = Image.fromarray(smooth()[..., 0])
    data = saved(image, "JPEG", exif=exif, dpi=(300, 300))
    expected = read_image(data)
    with pool.decode(data) as decoded:
        assert decoded.hole is None
        assert decoded.facts.grey
        assert decoded.facts.metadata == expected.metadata
        assert (decoded.facts.width, decoded.facts.height) == (21, 34)
        assert (decoded.pixels.array == expected.pixels).all()


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_encode_gives_what_write_gives(pool, format):
    data = saved(Image.fromarray(smooth()), "JPEG", dpi=(300, 300))
    photo = read_image(data)
    with pool.decode(data) as decoded:
        encoded = pool.encode(decoded.facts, decoded.pixels, format, quality=80)
    with encoded.data:
        assert bytes(encoded.data) == encode(photo, photo.pixels, format, quality=80)
        assert encoded.media_type == f"image/{format}"
        assert len(encoded.sha256) == 64


def test_previews_are_laid_into_the_hole(pool):
    with pool.check(PHOTO, MASK).hole as hole, pool.decode(PHOTO, hole=hole) as decoded:
        canvas = pool.canvas(decoded)
    with SharedArray((10, 20, 3), np.uint8) as window:
        window.array[...] = 255
        with pool.preview(canvas, window, 4, 3) as file:
            seen = np.asarray(Image.open(io.BytesIO(bytes(file))))
    assert canvas.size == (34, 21)
    assert seen.shape == (21, 34, 3)
    assert (canvas.picture.array[a_mask() > 0] == 255).all()
    assert (canvas.picture.array[a_mask() == 0] == smooth()[a_mask() == 0]).all()
    canvas.close()


@pytest.mark.parametrize(
    ("image", "mask", "expected"),
    [
        (b"", MASK, errors.NotAnImage),
        (b"<html>", MASK, errors.NotAnImage),
        (PHOTO[:-20], MASK, errors.BrokenImage),
        (PHOTO, png(a_mask(22, 34)), errors.SizeMismatch),
        (PHOTO, png(0 * a_mask()), errors.EmptyHole),
        (PHOTO, None, errors.MissingMask),
    ],
)
def test_what_is_wrong_comes_back_as_it_was_raised(pool, image, mask, expected):
    with pytest.raises(expected) as found:
        pool.check(image, mask)
    with pytest.raises(expected) as here:
        find_hole(image, mask)
    assert str(found.value) == str(here.value)


def test_too_many_pixels():
    with CodecPool(1, max_pixels=700) as pool, pytest.raises(errors.TooManyPixels, match="34 x 21"):
        pool.check(PHOTO, MASK)


def test_a_format_that_cannot_hold_the_result(pool):
    wide = np.zeros((2, 17000, 3), np.uint8)
    mask = np.zeros((2, 17000), np.uint8)
    mask[:, :5] = 255
    with pytest.raises(errors.FormatCannotHold, match="WebP"):
        pool.check(png(wide), png(mask), format="webp")


def test_a_fault_of_our_own_is_told_with_its_traceback(pool):
    with pytest.raises(CodecError, match="Traceback"):
        pool._ask(None, None, "check", {"max_pixels": None}, {"image": PHOTO})
    with pool.check(PHOTO, MASK).hole:
        pass


def test_no_descriptor_is_left():
    with CodecPool(1) as pool:
        pool.check(PHOTO, MASK).hole.close()
        before = os.listdir("/dev/fd")
        for _ in range(5):
            with pool.check(PHOTO, MASK).hole as hole, pool.decode(PHOTO, hole=hole):
                pass
            with contextlib.suppress(errors.ImageError):
                pool.check(PHOTO[:-40], MASK)
        assert len(os.listdir("/dev/fd")) == len(before)


def test_processes_are_replaced_after_a_while(pool, monkeypatch):
    monkeypatch.setattr("images.codec.pool.REQUESTS", 3)
    seen = set()
    for _ in range(7):
        pool.check(PHOTO, MASK).hole.close()
        seen.update(pool.pids[1:])
    assert len(seen) >= 2


def test_parents_need_no_codecs():
    code = "import sys, images.codec.pool; assert not {'PIL', 'imagecodecs', 'simplejpeg'} & set(sys.modules)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


# ---- processes that end


def test_a_process_that_was_killed_is_replaced(pool):
    pool.check(PHOTO, MASK).hole.close()
    os.kill(pool.pids[-1], signal.SIGKILL)
    pool.check(PHOTO, MASK).hole.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux who is there")
def test_the_fork_server_is_replaced():
    with CodecPool(2) as pool:
        pool.check(PHOTO, MASK).hole.close()
        first, child = pool.pids
        os.kill(first, signal.SIGKILL)
        while _alive(child):
            time.sleep(0.02)
        pool.check(PHOTO, MASK).hole.close()
        assert pool.pids[0] != first


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux who is there")
def test_processes_end_with_their_parent():
    code = (
        "import os, signal; from images.codec.pool import CodecPool; from tests.images.codec.test_pool import *;"
        "pool = CodecPool(2); pool.check(PHOTO, MASK); print(*pool.pids, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    import subprocess

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout
    pids = [int(pid) for pid in told.split()]
    assert len(pids) == 2
    while any(_alive(pid) for pid in pids):
        time.sleep(0.02)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_poll_ends_a_request(pool):
    class Wanted(Exception):
        pass

    def poll():
        raise Wanted

    slow = png(np.zeros((9000, 9000), np.uint8))
    before = pool.replaced
    with pytest.raises(Wanted):
        pool.check(slow, slow, poll=poll)
    assert pool.replaced == before + 1
    pool.check(PHOTO, MASK).hole.close()


# ---- limits

SLOW = Limits(floor_seconds=0.0, seconds_per_megapixel=0.0, seconds_per_megabyte=0.0)
SMALL = Limits(floor_bytes=1 << 20, bytes_per_pixel=0.6)


def test_processor_time_is_bounded():
    image = progressive(9000, 40)
    with CodecPool(1, limits=SLOW) as pool:
        with pytest.raises(errors.ImageTooCostly, match=r"9000 x 9000 pixels.*processor time"):
            pool.check(image, image)
        pool.check(PHOTO, MASK).hole.close()
        assert pool.replaced == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux bounds memory")
def test_memory_is_bounded():
    image = png(np.zeros((6000, 6000, 3), np.uint8))
    with CodecPool(1, limits=SMALL) as pool:
        with pytest.raises(errors.ImageTooCostly, match=r"6000 x 6000 pixels.*MiB of memory"):
            pool.decode(image)
        pool.check(PHOTO, MASK).hole.close()


# ---- many callers


def test_one_owner_leaves_a_process_for_the_next():
    """A request of one owner is answered while two of another's are still worked on."""
    slow = png(np.zeros((11000, 11000), np.uint8), compress_level=1)
    with CodecPool(2) as pool, ThreadPoolExecutor(3) as threads:
        greedy = [threads.submit(pool.check, slow, slow, owner="greedy") for _ in range(2)]
        pool.check(PHOTO, MASK, owner="honest").hole.close()
        assert not greedy[1].done()
        for future in greedy:
            assert isinstance(future.exception(), errors.EmptyHole)


def test_coroutines_wait_without_threads(pool):
    async def main():
        async def one(owner):
            async with pool.turn(owner) as turn:
                found = await asyncio.to_thread(pool.check, PHOTO, MASK, owner=turn)
                found.hole.close()
                return threading.active_count()

        return await asyncio.gather(*(one(f"owner {number % 7}") for number in range(40)))

    assert max(asyncio.run(main())) < 12


def test_a_coroutine_that_stops_waiting_takes_no_slot(pool):
    async def main():
        async with pool.turn("a"):
            waiting = [asyncio.create_task(pool.turn("a").__aenter__()) for _ in range(3)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        async with asyncio.timeout(60), pool.turn("a"):
            return pool.waiting

    assert asyncio.run(main()) == 0


def test_large_requests_go_one_by_one_and_small_ones_past_them():
    large = png(np.zeros((8000, 8000), np.uint8), compress_level=1)
    with CodecPool(3, memory_bytes=6 * (200 << 20)) as pool, ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(pool.check, large, large, owner="greedy") for _ in range(2)]
        while pool._large.waiting == 0:
            time.sleep(0.005)
        pool.check(PHOTO, MASK, owner="honest").hole.close()
        assert not waiting[0].done() or not waiting[1].done()
        for future in waiting:
            assert isinstance(future.exception(), errors.EmptyHole)
        assert pool._large.waiting == 0
