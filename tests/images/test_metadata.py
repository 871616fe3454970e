"""What a file says beside its pixels arrives in the result, and what is untrue of that does not."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from images.formats import xmp
from images.metadata import NO_METADATA, Density, Metadata
from images.photo import MEDIA_TYPES, Photo
from images.read import read_image
from images.write import encode
from tests.images import picture_files as files

CASES = Path(__file__).parent / "cases"
PLAIN = Image.fromarray(files.smooth())
PACKET = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"%s>'
    b"<dc:rights>Jos\xc3\xa9</dc:rights>%s</rdf:Description></rdf:RDF></x:xmpmeta>   <?xpacket end='w'?>"
)
WHOLE = PACKET % (b"", b"")


def again(data, format):
    """The file that a photo becomes when nothing is filled, and the codes of its warnings."""
    photo, warnings = read_image(data), []
    made = encode(photo, photo.pixels, format, warn=warnings.append)
    return made, [warning.code for warning in (*photo.warnings, *warnings)]


def chunks(png):
    found, at = {}, 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        found.setdefault(png[at + 4 : at + 8], []).append(png[at + 8 : at + 8 + length])
        at += 12 + length
    return {kind: found[kind] for kind in found if kind not in (b"IHDR", b"IDAT", b"IEND")}


@pytest.mark.parametrize("name", ["chrm", "cicp_p3", "cicp_pq", "gama1", "dpi300"])
def test_chunks_that_describe_colours_and_size_stay(name):
    before = (CASES / f"{name}.png").read_bytes()
    after, warnings = again(before, "png")
    assert chunks(before)
    assert chunks(after) == chunks(before)
    assert warnings == []


@pytest.mark.parametrize("name", ["chrm", "cicp_p3", "cicp_pq", "gama1"])
@pytest.mark.parametrize("format", ["jpeg", "webp", "tiff"])
def test_colours_that_only_png_can_describe_are_told(name, format):
    assert again((CASES / f"{name}.png").read_bytes(), format)[1] == ["colours-left-out"]


def test_srgb_needs_no_description():
    gamma, primaries = (
        struct.pack(">I", 45455),
        struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
    )
    for kind, data in ((b"sRGB", b"\1"), (b"gAMA", gamma), (b"cHRM", primaries), (b"cICP", bytes((1, 13, 0, 1)))):
        png = files.with_chunk(files.saved(PLAIN, "PNG"), kind, data)
        assert again(png, "jpeg")[1] == []
        assert chunks(again(png, "png")[0]) == {kind: [data]}


@pytest.mark.parametrize("to", MEDIA_TYPES)
@pytest.mark.parametrize("source", ["PNG", "JPEG", "TIFF", "case"])
def test_pixels_per_inch_survive_every_way(source, to):
    data = (CASES / "dpi300.jpg").read_bytes() if source == "case" else files.saved(PLAIN, source, dpi=(300, 150))
    found = Image.open(io.BytesIO(again(data, to)[0]))
    dpi = found.info.get("dpi") or (found.getexif()[0x011A], found.getexif()[0x011B])
    assert tuple(round(float(value), 1) for value in dpi) == ((300, 300) if source == "case" else (300, 150))


def test_the_density_of_a_jpeg_keeps_its_unit():
    data = (CASES / "dpi300.jpg").read_bytes()
    for unit, x, y in ((2, 118, 60), (0, 4, 3), (1, 72, 72)):
        given = data[:13] + struct.pack(">BHH", unit, x, y) + data[18:]
        assert again(given, "jpeg")[0][13:18] == given[13:18]
        assert read_image(again(given, "tiff")[0]).metadata.density == read_image(given).metadata.density
    proportion = again(data[:13] + struct.pack(">BHH", 0, 4, 3) + data[18:], "png")[0]
    assert chunks(proportion)[b"pHYs"] == [struct.pack(">IIB", 4, 3, 0)]


@pytest.mark.parametrize("value", [72, 96, 150, 240, 300, 305, 600])
def test_whole_numbers_per_inch_survive_png(value):
    density = Density(value, value, "inch")
    metres = Density(*(round(number) for number in density.per("metre")), "metre")
    assert metres.per("inch") == (value, value)


def with_xmp(format, packet):
    if format == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        return files.saved(PLAIN, "PNG", pnginfo=info)
    if format == "TIFF":
        return files.saved(PLAIN, "TIFF", tiffinfo={700: packet})
    return files.saved(PLAIN, format, xmp=packet)


@pytest.mark.parametrize("to", MEDIA_TYPES)
@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_xmp_survives_every_way_byte_for_byte(source, to):
    made, warnings = again(with_xmp(source, WHOLE), to)
    assert read_image(made).metadata.xmp == WHOLE
    image = Image.open(io.BytesIO(made))
    found = image.tag_v2[700] if to == "tiff" else image.info["xmp"]
    assert (found if isinstance(found, bytes) else found.encode()) == WHOLE
    assert warnings == []


UNTRUE = {
    "a gain map": (b' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"', b""),
    "gain map values": (
        b' xmlns:hdrgm="h"',
        b"<hdrgm:GainMapMax><rdf:Seq><rdf:li>3</rdf:li></rdf:Seq></hdrgm:GainMapMax>",
    ),
    "a film": (b' xmlns:GCamera="g" GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion=\'1\'', b""),
    "a directory": (
        b' xmlns:Container="c" xmlns:Item="i"',
        b'<Container:Directory><rdf:Seq><rdf:li><Container:Item Item:Length="9"/></rdf:li></rdf:Seq>'
        b"</Container:Directory>",
    ),
    "thumbnails": (
        b' xmlns:xmp="x" xmlns:xmpGImg="y"',
        b"<xmp:Thumbnails><rdf:Alt><rdf:li><xmpGImg:image>/9j/4AAQ</xmpGImg:image></rdf:li></rdf:Alt></xmp:Thumbnails>",
    ),
    "a longer packet": (b' xmlns:xmpNote="n" xmpNote:HasExtendedXMP="00"', b""),
}


@pytest.mark.parametrize("what", UNTRUE)
def test_xmp_loses_what_is_untrue_and_nothing_else(what):
    attributes, elements = UNTRUE[what]
    namespaces = b"".join(b" " + part for part in attributes.split() if part.startswith(b"xmlns"))
    assert xmp.kept(PACKET % (attributes, elements)) == PACKET % (namespaces, b"")


def test_the_orientation_in_xmp_is_reset_unless_the_file_stays_turned():
    for given, reset in (
        ((b' tiff:Orientation="6"', b""), (b' tiff:Orientation="1"', b"")),
        ((b"", b"<tiff:Orientation>8</tiff:Orientation>"), (b"", b"<tiff:Orientation>1</tiff:Orientation>")),
    ):
        assert xmp.kept(PACKET % given) == PACKET % reset
        assert xmp.kept(PACKET % given, reset=False) == PACKET % given


@pytest.mark.parametrize(
    "packet",
    [
        b"no xml",
        WHOLE[:-60],
        b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + WHOLE,
        PACKET % (b"", b"<xmp:Thumbnails>"),
        b"<x>" + b" " * xmp.MOST_BYTES + b"</x>",
    ],
    ids=["text", "cut off", "entities", "open element", "long"],
)
def test_xmp_that_cannot_be_trusted_is_left_out(packet):
    assert again(with_xmp("PNG", packet), "png")[1] == ["xmp-left-out"]


def test_texts_of_a_png_survive():
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "Jos\xe9")
    info.add_text("parameters", "a sampler " * 200, zip=True)
    info.add_itxt("Title", "日本", lang="ja", zip=True)
    info.add_text("Raw profile type exif", "\nexif\n 4\n00000000")
    info.add_text("Thumb::Image::Width", "9")
    data, warnings = again(files.saved(PLAIN, "PNG", pnginfo=info), "png")
    image = Image.open(io.BytesIO(data))
    assert image.text == {"Author": "Jos\xe9", "parameters": "a sampler " * 200, "Title": "日本"}
    assert warnings == []
    assert again(data, "jpeg")[1] == ["texts-left-out"]
    assert read_image(data).metadata.texts == read_image(again(data, "png")[0]).metadata.texts


def test_a_flood_of_texts_is_bounded():
    info = PngImagePlugin.PngInfo()
    for _ in range(3):
        info.add_text("a", "b" * 600_000, zip=True)
    data, warnings = again(files.saved(PLAIN, "PNG", pnginfo=info), "png")
    assert len(read_image(data).metadata.texts) == 1
    assert warnings == ["texts-left-out"]


def test_the_comment_of_a_jpeg_survives():
    data = files.saved(PLAIN, "JPEG", comment=b"made by hand")
    assert Image.open(io.BytesIO(again(data, "jpeg")[0])).info["comment"] == b"made by hand"
    assert Image.open(io.BytesIO(again(data, "png")[0])).text == {"Comment": "made by hand"}


def test_it_travels_between_processes_as_it_is():
    metadata = Metadata(
        b"icc", b"exif", b"xmp", Density(300, 300, "inch"), (("cICP", bytes((9, 16, 0, 1))),), (("Title", "日本"),)
    )
    for given in (metadata, NO_METADATA):
        assert Metadata.unpacked(given.packed()) == given


def test_a_tiff_whose_description_is_damaged_is_read_without():
    pixels = files.noise(5, 7, 3, dtype=np.uint16)
    data = bytearray(files.raw_tiff(pixels, 2, tags=((282, 4, [300, 1]), (700, 4, [1, 2, 3]))))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, at)[0] in (282, 700):
            struct.pack_into("<I", data, at + 8, len(data) + 9)
    photo = read_image(bytes(data))
    assert (photo.metadata.xmp, photo.metadata.density) == (None, None)
    assert (photo.pixels == pixels).all()


def test_metadata_that_no_format_can_hold_stops_nothing():
    wild = Metadata(xmp=WHOLE + b" " * 70_000, density=Density(1e9, 1e-9, "inch"), texts=(("a", "b"),))
    photo = Photo(files.smooth(), "png", wild)
    for format in MEDIA_TYPES:
        assert read_image(encode(photo, photo.pixels, format)).metadata.density in (None, wild.density)
