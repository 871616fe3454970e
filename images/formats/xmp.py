"""XMP: a packet of XML that describes a photo, without what is untrue of a filled one."""

from __future__ import annotations

import re
from xml.parsers import expat

from images.warnings import GAIN_MAP, UNREADABLE_XMP, ImageWarning, Warn, further_pictures, ignore

MOST_BYTES = 4 << 20  # a packet is a few kilobytes long; longer ones hold pictures
_GAIN_MAP = re.compile(rb"http://ns.adobe.com/hdr-gain-map/1.0/|http://ns.apple.com/HDRGainMap/1.0/")
_FILM = re.compile(rb"(MotionPhoto|MicroVideo)(=[\"']|>)1")
# Pictures of the photo as it was; what lies behind the end of the file; depth; a longer packet elsewhere in the file.
_UNTRUE = rb"(?:hdrgm|HDRGainMap|apdi|GCamera|Container|GContainer|Item|GImage|GDepth|GAudio|xmpGImg|xmpNote):[\w.-]+"
_UNTRUE = rb"(?:xmp:Thumbnails|" + _UNTRUE + rb")"
_ATTRIBUTE = re.compile(rb"\s" + _UNTRUE + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')")
_ELEMENT = re.compile(rb"<(" + _UNTRUE + rb")(?:\s[^<>]*)?(?:/>|(?<!/)>.*?</\1\s*>)", re.DOTALL)
_LEFT_OVER = re.compile(rb"[<\s]" + _UNTRUE)
_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8]")


def kept(packet: bytes | None, warn: Warn = ignore, *, reset: bool = True) -> bytes | None:
    """`packet` with the orientation reset to 1 (unless `reset` is false) and without what is untrue of a filled photo.

    All else stays byte for byte. None, and a warning, for a packet that cannot be read.
    """
    if not packet:
        return None
    edited = _ELEMENT.sub(b"", _ATTRIBUTE.sub(b"", packet)) if len(packet) <= MOST_BYTES else b""
    if reset:
        edited = _ORIENTATION.sub(rb"\g<1>1", edited)
    if b"<!" in edited or _LEFT_OVER.search(edited) or not _is_xml(edited):  # a document type may hide entities
        warn(UNREADABLE_XMP)
        return None
    return edited


def further(packet: bytes) -> ImageWarning | None:
    """What lies in the file beside its picture, as the packet says."""
    if _GAIN_MAP.search(packet):
        return GAIN_MAP
    return further_pictures("a short film") if _FILM.search(packet) else None


def _is_xml(data: bytes) -> bool:
    try:
        expat.ParserCreate().Parse(data.strip(b"\0 \t\r\n"), True)
    except (expat.ExpatError, ValueError, LookupError):
        return False
    return True
