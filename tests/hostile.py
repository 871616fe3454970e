"""Files and requests made to hurt: damaged pictures of every format, bombs, and bodies that break their own rules."""

import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests import support

FORMATS = ("png", "jpeg", "webp", "tiff")
SIZE = (96, 80)
# A folder of further pictures, such as Tests/images of Pillow's source distribution.
FOLDER = os.environ.get("HOSTILE_IMAGES")


def damaged():
    """(name, bytes) of truncated and bit-flipped pictures in every format; the same ones in every run."""
    chance = random.Random(20)
    for format in FORMATS:
        whole = support.as_file(support.pixels(), format)
        for part in range(1, 8):
            yield f"{format} cut at {part}/8", whole[: len(whole) * part // 8]
        yield f"{format} without its last byte", whole[:-1]
        for number in range(12):
            # Half of them in the first bytes, where the structure is.
            flipped, last = bytearray(whole), len(whole) if number % 2 else min(len(whole), 200)
            for _ in range(1 + number % 3):
                flipped[chance.randrange(last)] ^= 1 << chance.randrange(8)
            yield f"{format} with flipped bits {number}", bytes(flipped)
        hollow = bytearray(whole)
        hollow[len(whole) // 3 : len(whole) // 2] = bytes(len(whole) // 2 - len(whole) // 3)
        yield f"{format} with a hole of zeros", bytes(hollow)
        yield f"{format} twice", whole + whole
        yield f"{format} and then zeros", whole + bytes(50_000)


def png(chunks):
    """A PNG of these (kind, data)."""
    out = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        out += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return out


def bombs():
    """(name, bytes) of small files that want to become large or slow."""
    width, height = SIZE
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes((width * 3 + 1) * height))
    ten_megabytes = zlib.compress(bytes(10_000_000), 9)
    end = (b"IEND", b"")
    huge = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 6, 0, 0, 0)
    yield "png of 4 exapixels", png([(b"IHDR", huge), (b"IDAT", rows), end])
    yield "png of no pixels", png([(b"IHDR", struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0)), (b"IDAT", rows), end])
    yield "png with more data than pixels", png([(b"IHDR", header), (b"IDAT", ten_megabytes), end])
    yield "png with less data than pixels", png([(b"IHDR", header), (b"IDAT", zlib.compress(b"x")), end])
    yield "png with a text bomb", png([(b"IHDR", header), (b"zTXt", b"a\0\0" + ten_megabytes), (b"IDAT", rows), end])
    yield "png with a profile bomb", png([(b"IHDR", header), (b"iCCP", b"a\0\0" + ten_megabytes), (b"IDAT", rows), end])
    tiny = [(b"tEXt", b"a\0b")] * 20_000
    yield "png of 20 000 chunks", png([(b"IHDR", header), *tiny, (b"IDAT", rows), end])
    yield "png with a broken checksum", png([(b"IHDR", header), (b"IDAT", rows), end])[:-5] + b"\0\0\0\0\0"
    jpeg = bytearray(support.as_file(support.pixels(), "jpeg", progressive=True))
    at = jpeg.index(b"\xff\xc2")
    yield "jpeg of 65535 x 65535", bytes(jpeg[: at + 5] + b"\xff\xff\xff\xff" + jpeg[at + 9 :])
    scan = jpeg.index(b"\xff\xda")
    second = jpeg.index(b"\xff\xda", scan + 2)
    yield "jpeg of 3000 scans", bytes(jpeg[:scan] + jpeg[scan:second] * 3000 + jpeg[second:])
    yield "jpeg with 500 empty comments", bytes(jpeg[:2] + b"\xff\xfe\0\2" * 500 + jpeg[2:])
    webp = bytearray(support.as_file(support.pixels(channels=4), "webp"))
    yield "webp with an enormous canvas", bytes(webp[:24] + b"\xff" * 6 + webp[30:])
    yield "webp that lies about its length", bytes(webp[:4] + b"\xff\xff\xff\x7f" + webp[8:])
    tiff = support.as_file(support.pixels(), "tiff")
    first = struct.unpack("<I", tiff[4:8])[0]
    entries = struct.unpack("<H", tiff[first : first + 2])[0]
    after = first + 2 + entries * 12
    yield "tiff whose pages go round", tiff[:after] + struct.pack("<I", first) + tiff[after + 4 :]
    yield "tiff with its pages beyond its end", tiff[:4] + b"\xf0\xff\xff\xff" + tiff[8:]
    for entry in range(entries):
        count = first + 2 + entry * 12 + 4
        yield f"tiff with 2**32 - 1 values in entry {entry}", tiff[:count] + b"\xff" * 4 + tiff[count + 4 :]


def strangers():
    """(name, bytes) of what is no picture, or one that is not accepted."""
    yield "nothing", b""
    yield "one byte", b"\x89"
    yield "only the signature of a png", b"\x89PNG\r\n\x1a\n"
    yield "only the signature of a tiff", b"II*\0"
    yield "noise", random.Random(3).randbytes(30_000)
    yield "zeros", bytes(30_000)
    yield "a web page", b"<!doctype html><script>alert(1)</script>"
    yield "an svg with an entity bomb", b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "a">]><svg>&a;</svg>'
    yield "a zip", b"PK\x03\x04" + bytes(100)
    yield "postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\n"
    for format in ("gif", "bmp", "ppm", "tga", "ico"):
        yield f"a {format}", support.as_file(support.pixels(), format)
    animated = [Image.fromarray(support.pixels()) for _ in range(3)]
    for format in ("png", "webp", "tiff"):
        out = io.BytesIO()
        animated[0].save(out, format, save_all=True, append_images=animated[1:])
        yield f"a {format} of three frames", out.getvalue()
    for mode in ("1", "L", "P", "LA", "CMYK", "I;16", "F", "YCbCr"):
        for format in ("png", "tiff", "jpeg"):
            out = io.BytesIO()
            try:
                Image.fromarray(support.pixels()).convert("L" if mode in ("I;16", "F", "LA") else "RGB").convert(
                    mode
                ).save(out, format)
            except (OSError, ValueError, KeyError):
                continue  # this format has no such mode
            yield f"a {format} of mode {mode}", out.getvalue()


def from_folder():
    """(name, bytes) of the files in HOSTILE_IMAGES, as they are and cut in half."""
    for path in sorted(Path(FOLDER).rglob("*")) if FOLDER else ():
        if path.is_file():
            data = path.read_bytes()
            yield path.name, data
            yield f"half of {path.name}", data[: len(data) // 2]


def mask_for(image):
    """A mask of the picture's size as Pillow sees it, else of SIZE."""
    width, height = SIZE
    try:
        with Image.open(io.BytesIO(image)) as opened:
            if 0 < opened.width * opened.height <= 4_000_000:
                width, height = opened.size
                if opened.getexif().get(0x0112, 1) > 4:
                    width, height = height, width
    except Exception:  # it is meant to break
        pass
    hole = np.zeros((height, width), np.uint8)
    hole[height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = 255
    return support.as_file(hole)


def part(name, data, filename=None, headers=b""):
    """One part of a multipart body with the boundary `x`."""
    if filename is not None:
        name += b'"; filename="' + filename
    return b'--x\r\nContent-Disposition: form-data; name="' + name + b'"\r\n' + headers + b"\r\n" + data + b"\r\n"


def whole_form():
    """A multipart body with the boundary `x` that is as it should be."""
    image = part(b"image", support.as_file(support.pixels()), b"a")
    return image + part(b"mask", mask_for(b""), b"b") + part(b"preset", b"single-pass") + b"--x--\r\n"


def bodies():
    """(name, body) of multipart bodies with the boundary `x` that break the rules of the form."""
    image, mask = (part(n, d, n) for n, d in ((b"image", support.as_file(support.pixels())), (b"mask", mask_for(b""))))
    end = b"--x--\r\n"
    yield "empty", b""
    yield "only the end", end
    yield "no end", image + mask
    yield "no image", mask + end
    yield "no mask", image + end
    yield "image twice", image + image + mask + end
    yield "mask twice", image + mask + mask + end
    yield "five images", image * 5 + end
    yield "a field twice", image + mask + part(b"preset", b"default") * 2 + end
    yield "a thousand fields", image + mask + b"".join(part(b"f%d" % n, b"1") for n in range(1000)) + end
    yield "a long field", image + mask + part(b"preset", b"d" * 100_000) + end
    yield "a long name", image + mask + part(b"n" * 100_000, b"1") + end
    yield "a long header", image + mask + part(b"preset", b"default", headers=b"X: " + b"y" * 100_000 + b"\r\n") + end
    yield "many headers", image + mask + part(b"preset", b"default", headers=b"X: y\r\n" * 5000) + end
    yield "no name", image + b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n" + end
    yield "no disposition", image + b"--x\r\n\r\n1\r\n" + end
    yield "zeros in a name", image + mask + part(b"pre\0set", b"default") + end
    yield "zeros in a value", image + mask + part(b"preset", b"def\0ault") + end
    yield "not UTF-8", image + mask + part(b"preset", b"\xff\xfe") + end
    yield "a name that is not UTF-8", image + mask + part(b"\xff\xfe", b"1") + end
    yield (
        "a file name that climbs",
        part(b"image", support.as_file(support.pixels()), b"../../../etc/passwd") + mask + end,
    )
    yield (
        "a file name with line ends",
        part(b"image", support.as_file(support.pixels()), b"a%0d%0aX: y\t\x7f") + mask + end,
    )
    yield "an encoded part", part(b"image", b"aGVsbG8=", b"a", b"Content-Transfer-Encoding: base64\r\n") + mask + end
    yield "form in a form", part(b"image", image + end, b"a", b"Content-Type: multipart/mixed; boundary=x\r\n") + end
    yield "another boundary", (image + mask + end).replace(b"--x", b"--y")
    yield "line feeds alone", (image + mask + end).replace(b"\r\n", b"\n")
    yield "text before and after", b"hello\r\n" + image + mask + end + b"goodbye"
