"""Small image files for the tests, of every kind the service accepts, made by other hands than ours."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
from PIL import Image, ImageCms

HEIGHT, WIDTH = 21, 34


def noise(*shape, dtype=np.uint8, seed=0):
    """Random values over the whole range of `dtype`."""
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, shape, dtype=dtype)


def smooth(height=HEIGHT, width=WIDTH):
    """A photo-like uint8 picture: four distinct corners, so that every way of turning it shows."""
    y, x = np.mgrid[0:height, 0:width] / np.array([[[height]], [[width]]])
    return np.stack([230 * y + 10, 200 * x + 20, 120 * (1 - x * y) + 60], -1).round().astype(np.uint8)


def saved(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(png, kind, data):
    """`png` with one more chunk after its header."""
    return png[:33] + png_chunk(kind, data) + png[33:]


def raw_png(width, height, depth, colour, rows, *chunks, interlaced=0):
    """A PNG file of unfiltered `rows` (bytes), written without any library; chunks: (kind, data)."""
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = [png_chunk(b"IHDR", header), *(png_chunk(*chunk) for chunk in chunks)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def raw_tiff(pixels, photometric, *, order="<", planar=1, tags=()):
    """An uncompressed TIFF file of HxWxC integer or float pixels, written without any library.

    tags: further (tag, kind, values), kind 3 (short), 4 (long) or 11 (float).
    """
    height, width, channels = pixels.shape
    stored = np.moveaxis(pixels, -1, 0) if planar == 2 else pixels
    data = stored.astype(pixels.dtype.newbyteorder(order)).tobytes()
    strips = channels if planar == 2 else 1
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    size = len(data) // strips
    entries = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8 * pixels.itemsize] * channels),
        259: (3, [1]),
        262: (3, [photometric]),
        273: (4, [8 + size * number for number in range(strips)]),
        277: (3, [channels]),
        278: (4, [height]),
        279: (4, [size] * strips),
        284: (3, [planar]),
        339: (3, [kind] * channels),
        **{tag: (kind, values) for tag, kind, values in tags},
    }
    data += b"\0" * (len(data) % 2)
    start = 8 + len(data)
    after = start + 2 + 12 * len(entries) + 4
    directory, extra = struct.pack(order + "H", len(entries)), b""
    for tag, (kind, values) in sorted(entries.items()):
        code = {3: "H", 4: "I", 11: "f"}[kind]
        packed = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(packed) > 4:
            offset = after + len(extra)
            extra += packed + b"\0" * (len(packed) % 2)
            packed = struct.pack(order + "I", offset)
        directory += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return head + data + directory + bytes(4) + extra


def exif_block(orientation=6, *, order="<", thumbnail=b"", short=False):
    """An EXIF block (no prefix) with a maker, an orientation and a thumbnail in its second directory.

    short: the thumbnail's length is stored as SHORT, as some cameras do.
    """
    maker = b"Lamacam\0"
    first = 8 + 2 + 2 * 12 + 4
    second = first + len(maker)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    head += struct.pack(order + "H", 2)
    head += struct.pack(order + "HHII", 0x010F, 2, len(maker), first)
    head += struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    if not thumbnail:
        return head + bytes(4) + maker
    head += struct.pack(order + "I", second) + maker + struct.pack(order + "H", 2)
    head += struct.pack(order + "HHII", 0x0201, 4, 1, second + 2 + 24 + 4)
    length = ("HHIHxx", 3) if short else ("HHII", 4)
    head += struct.pack(order + length[0], 0x0202, length[1], 1, len(thumbnail)) + bytes(4)
    return head + thumbnail


def progressive(side, scans):
    """A blank progressive JPEG whose last scan is there again and again."""
    data = saved(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + data[-2:]


def srgb_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile_of(space):
    """A profile that calls itself one of `space` (4 bytes), for carrying, not for converting."""
    icc = bytearray(srgb_profile())
    icc[16:20] = space
    return bytes(icc)


def grey_ink_profile():
    """A printer profile written by hand: cyan takes lightness away down to 50, other inks do nothing."""
    ramp = bytes(range(256))
    corners = b"".join(bytes([255 if node < 8 else 128, 128, 128]) for node in range(16))  # cyan varies slowest
    identity = struct.pack(">9i", *(65536 * (at % 4 == 0) for at in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + corners + ramp * 3
    lut += bytes(-len(lut) % 4)
    size = 128 + 4 + 12 + len(lut)
    header = struct.pack(">I4sI4s4s4s12s4s", size, b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ", bytes(12), b"acsp")
    white = struct.pack(">3i", 63190, 65536, 54061)  # D50
    header = header.ljust(68, b"\0") + white
    return header.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(lut)) + lut


def every_kind():
    """{name: file} over formats and pixel kinds, all of WIDTH x HEIGHT."""
    grey, rgb = noise(HEIGHT, WIDTH), smooth()
    alpha = noise(HEIGHT, WIDTH, 1, seed=1)
    grey16 = noise(HEIGHT, WIDTH, dtype=np.uint16)
    rgb16 = noise(HEIGHT, WIDTH, 3, dtype=np.uint16)
    rgba16 = noise(HEIGHT, WIDTH, 4, dtype=np.uint16)
    photo, rgba = Image.fromarray(rgb), Image.fromarray(np.concatenate([rgb, alpha], -1))
    palette = photo.quantize(40)
    la = Image.fromarray(np.concatenate([grey[..., None], alpha], -1))
    files = {
        "png-1": saved(Image.fromarray(grey).convert("1"), "PNG"),
        "png-l": saved(Image.fromarray(grey), "PNG"),
        "png-la": saved(la, "PNG"),
        "png-p": saved(palette, "PNG"),
        "png-p-trns": saved(palette, "PNG", transparency=bytes(range(0, 200, 5))),
        "png-p-key": saved(palette, "PNG", transparency=3),
        "png-rgb": saved(photo, "PNG"),
        "png-rgb-trns": saved(photo, "PNG", transparency=tuple(int(v) for v in rgb[2, 3])),
        "png-rgba": saved(rgba, "PNG"),
        "png-i16": imagecodecs.png_encode(grey16),
        "png-la16": imagecodecs.png_encode(rgba16[..., :2].copy()),
        "png-rgb16": imagecodecs.png_encode(rgb16),
        "png-rgba16": imagecodecs.png_encode(rgba16),
        "jpeg-l": saved(Image.fromarray(grey), "JPEG"),
        "jpeg-rgb": saved(photo, "JPEG"),
        "jpeg-progressive": saved(photo, "JPEG", progressive=True),
        "jpeg-cmyk": saved(photo.convert("CMYK"), "JPEG"),
        "webp-lossy": saved(photo, "WEBP"),
        "webp-lossy-alpha": saved(rgba, "WEBP"),
        "webp-lossless": saved(photo, "WEBP", lossless=True),
        "webp-lossless-alpha": saved(rgba, "WEBP", lossless=True),
        "webp-animated": saved(photo, "WEBP", save_all=True, append_images=[photo.rotate(180)]),
        "tiff-rgb16": imagecodecs.tiff_encode(rgb16, compression="lzw", predictor=2),
        "tiff-rgba16": imagecodecs.tiff_encode(rgba16, tile=(16, 16), compression="deflate"),
        "tiff-i16": imagecodecs.tiff_encode(grey16),
        "tiff-la16": raw_tiff(rgba16[..., :2], 1, tags=[(338, 3, [2])]),
        "tiff-multi": saved(photo, "TIFF", save_all=True, append_images=[photo.resize((5, 5))]),
    }
    for mode in ("1", "L", "P", "LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F"):
        if mode == "LA":
            image = la
        elif mode == "LAB":
            lab = ImageCms.createProfile("LAB")
            image = ImageCms.profileToProfile(photo, ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
        elif mode in ("RGBA", "PA"):
            image = rgba if mode == "RGBA" else palette.convert("PA")
        elif mode == "F":
            image = Image.fromarray(grey.astype(np.float32) / 255)
        else:
            image = photo.convert("L").convert(mode) if mode == "I" else photo.convert(mode)
        files[f"tiff-{mode.lower()}"] = saved(image, "TIFF")
        if mode not in ("LAB", "I", "F", "PA"):
            files[f"tiff-{mode.lower()}-lzw"] = saved(image, "TIFF", compression="tiff_lzw")
    return files
