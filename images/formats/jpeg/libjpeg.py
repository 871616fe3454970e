"""The DCT coefficients of a JPEG file: read without decoding, changed block by block, written again.

This calls the libjpeg that Pillow is linked with, through the structures of its version 6b interface, which have been
frozen since 1998 (libjpeg-turbo's default). libjpeg reports an error by a function that must not return, and Python
cannot jump out of a C call. So an error ends this process: read files from outside in a codec process.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_int, c_long, c_short, c_ubyte, c_uint, c_ulong, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ctypeslib  # which numpy would import later, and a codec process cannot
from numpy.typing import NDArray
from PIL import _imaging, features

from images.errors import NotTransplanted

GREY, RGB, YCC = 1, 2, 3  # J_COLOR_SPACE
ERROR_EXIT = 70  # of a process that met an error in libjpeg
_INTERFACE, _HEADER_READ = 62, 1
_SPARE_BYTES = 1 << 16  # of the buffer for a file that is about as long as its source


class _Errors(Structure):
    """struct jpeg_error_mgr."""

    _fields_ = (
        *((name, c_void_p) for name in ("error_exit", "emit_message", "output_message", "format_message", "reset")),
        ("code", c_int),
        ("parameters", c_int * 20),
        ("trace_level", c_int),
        ("warnings", c_long),
        ("messages", c_void_p),
        ("last_message", c_int),
        ("further_messages", c_void_p),
        ("first_further", c_int),
        ("last_further", c_int),
    )


class _Memory(Structure):
    """struct jpeg_memory_mgr, as far as it is used."""

    _fields_ = (("others", c_void_p * 8), ("access_virt_barray", c_void_p))


class _Component(Structure):
    """jpeg_component_info."""

    _fields_ = (
        *((name, c_int) for name in ("id", "index", "horizontal", "vertical", "table", "dc_table", "ac_table")),
        ("width_in_blocks", c_uint),
        ("height_in_blocks", c_uint),
        ("others", c_int * 10),
        ("quantisation", POINTER(c_short)),
        ("dct_table", c_void_p),
    )


_COMMON = (
    ("errors", POINTER(_Errors)),
    ("memory", POINTER(_Memory)),
    ("progress", c_void_p),
    ("client_data", c_void_p),
    ("is_decompressor", c_int),
    ("state", c_int),
)


class _Reader(Structure):
    """struct jpeg_decompress_struct."""

    _fields_ = (
        *_COMMON,
        ("source", c_void_p),
        ("width", c_uint),
        ("height", c_uint),
        ("components", c_int),
        ("colour_space", c_int),
        ("output", c_int * 3),
        ("gamma", ctypes.c_double),
        ("options", c_int * 17),
        ("colormap", c_void_p),
        ("positions", c_int * 5),
        ("coefficient_bits", c_void_p),
        ("tables", c_void_p * 12),
        ("precision", c_int),
        ("component", POINTER(_Component)),
        ("progressive", c_int),
        ("arithmetic", c_int),
        ("conditioning", c_ubyte * 48),
        ("restart_interval", c_uint),
        ("jfif", c_ubyte * 12),
        ("adobe", c_ubyte * 8),
        ("ccir601", c_int),
        ("markers", c_void_p),
        ("most_horizontal", c_int),
        ("most_vertical", c_int),
        ("smallest_block", c_int),
        ("rows_of_units", c_uint),
        ("range_limit", c_void_p),
        ("components_in_scan", c_int),
        ("component_in_scan", c_void_p * 4),
        ("scan", c_int * 18),
        ("modules", c_void_p * 11),
    )


class _Writer(Structure):
    """struct jpeg_compress_struct."""

    _fields_ = (
        *_COMMON,
        ("destination", c_void_p),
        ("size", c_int * 4),
        ("gamma", ctypes.c_double),
        ("precision", c_int),
        ("components", c_int),
        ("colour_space", c_int),
        ("component", POINTER(_Component)),
        ("tables", c_void_p * 12),
        ("conditioning", c_ubyte * 48),
        ("scans", c_int),
        ("scan_list", c_void_p),
        ("raw", c_int),
        ("arithmetic", c_int),
        ("optimised", c_int),
        ("others", c_int * 3),
        ("restart_interval", c_uint),
        ("restart_rows", c_int),
        ("writes_jfif", c_int),
        ("jfif", c_ubyte * 8),
        ("writes_adobe", c_int),
        ("next_line", c_uint),
        ("progressive", c_int),
        ("factors", c_int * 2),
        ("rows_of_units", c_uint),
        ("components_in_scan", c_int),
        ("component_in_scan", c_void_p * 4),
        ("scan", c_int * 17),
        ("modules", c_void_p * 10),
        ("script_size", c_int),
    )


@dataclass(frozen=True)
class Component:
    """One plane of a file. width, height: in blocks. cell: the (rows, columns) of pixels that a sample covers.

    table: its quantisation steps, float32 8x8.
    """

    width: int
    height: int
    cell: tuple[int, int]
    table: NDArray[np.float32]


class Coefficients:
    """A file's coefficients. colour_space: GREY, RGB or YCC. size: width and height in pixels, as stored."""

    def __init__(self, reader: _Reader, arrays: Any, size: int):
        self.colour_space, self.size = int(reader.colour_space), (int(reader.width), int(reader.height))
        self.components = [_described(reader, reader.component[index]) for index in range(reader.components)]
        self._reader, self._arrays, self._size = reader, arrays, size
        self._access = _ACCESS(reader.memory.contents.access_virt_barray)

    def row(self, component: int, y: int) -> NDArray[np.int16]:
        """Row `y` of blocks of a component: a writable view, int16 of blocks x 8 x 8, valid until the next call."""
        rows = self._access(byref(self._reader), self._arrays[component], y, 1, 1)
        width = self.components[component].width
        found: NDArray[np.int16] = ctypeslib.as_array(rows[0], (width, 8, 8))
        return found

    def written(self) -> bytes:
        """The file of these coefficients, with Huffman tables of its own and without any metadata.

        It is progressive if the source was, and has the source's restart interval, tables and sampling.
        """
        writer, errors = _Writer(), _errors()
        writer.errors = ctypes.pointer(errors)
        _libjpeg.jpeg_CreateCompress(byref(writer), _INTERFACE, ctypes.sizeof(writer))
        buffer = (c_ubyte * (self._size + _SPARE_BYTES))()
        data, length = c_void_p(ctypes.addressof(buffer)), c_ulong(len(buffer))
        try:
            _libjpeg.jpeg_mem_dest(byref(writer), byref(data), byref(length))
            _libjpeg.jpeg_copy_critical_parameters(byref(self._reader), byref(writer))
            writer.optimised, writer.writes_jfif, writer.writes_adobe = 1, 0, 0
            writer.restart_interval = self._reader.restart_interval
            if self._reader.progressive:
                _libjpeg.jpeg_simple_progression(byref(writer))
            _libjpeg.jpeg_write_coefficients(byref(writer), self._arrays)
            _libjpeg.jpeg_finish_compress(byref(writer))
            return ctypes.string_at(data, length.value)
        finally:
            _libjpeg.jpeg_destroy_compress(byref(writer))
            if data.value not in (None, ctypes.addressof(buffer)):
                _libc.free(data)  # the file is longer than the buffer, and libjpeg has allocated another one


@contextmanager
def coefficients(data: bytes) -> Iterator[Coefficients]:
    """The coefficients of the JPEG file `data`. Raises NotTransplanted; any damage ends the process."""
    if not AVAILABLE:
        raise NotTransplanted("the Pillow of this service gives no access to coefficients")
    reader, errors = _Reader(), _errors()
    reader.errors = ctypes.pointer(errors)
    _libjpeg.jpeg_CreateDecompress(byref(reader), _INTERFACE, ctypes.sizeof(reader))
    try:
        _libjpeg.jpeg_mem_src(byref(reader), data, len(data))
        _libjpeg.jpeg_read_header(byref(reader), 1)
        if reader.arithmetic:
            raise NotTransplanted("the image is a JPEG with arithmetic coding")
        if reader.colour_space not in (GREY, RGB, YCC):
            raise NotTransplanted("the image is a CMYK JPEG")
        arrays = _libjpeg.jpeg_read_coefficients(byref(reader))
        yield Coefficients(reader, arrays, len(data))
    finally:
        _libjpeg.jpeg_destroy_decompress(byref(reader))


def _described(reader: _Reader, found: _Component) -> Component:
    rows, beyond = divmod(reader.most_vertical, found.vertical)
    columns, further = divmod(reader.most_horizontal, found.horizontal)
    if beyond or further:
        raise NotTransplanted("the image is a JPEG whose sampling factors do not divide each other")
    if not found.quantisation:
        raise NotTransplanted("the image is a JPEG without a quantisation table")
    table = ctypeslib.as_array(found.quantisation, (8, 8)).astype(np.uint16).astype(np.float32)
    return Component(found.width_in_blocks, found.height_in_blocks, (rows, columns), table)


def _errors() -> _Errors:
    made = _Errors()
    _libjpeg.jpeg_std_error(byref(made))
    made.error_exit = ctypes.cast(_ON_ERROR, c_void_p)
    made.output_message = ctypes.cast(_ON_MESSAGE, c_void_p)
    return made


def _end_process(_: Any) -> None:
    os._exit(ERROR_EXIT)


def _say_nothing(_: Any) -> None:
    return None


# Made once, as a codec process could not allocate executable memory for them later.
_CALLBACK = CFUNCTYPE(None, c_void_p)
_ON_ERROR, _ON_MESSAGE = _CALLBACK(_end_process), _CALLBACK(_say_nothing)
_ACCESS = CFUNCTYPE(POINTER(POINTER(c_short)), c_void_p, c_void_p, c_uint, c_uint, c_int)
# A name is looked for in Pillow's own library and in those that it is linked with, such as its libjpeg.
_libjpeg, _libc = ctypes.CDLL(_imaging.__file__), ctypes.CDLL(None)
AVAILABLE = features.version_codec("jpg") == "6.2" and hasattr(_libjpeg, "jpeg_mem_dest")
if AVAILABLE:
    _libjpeg.jpeg_std_error.argtypes = (c_void_p,)
    _libjpeg.jpeg_CreateDecompress.argtypes = _libjpeg.jpeg_CreateCompress.argtypes = (c_void_p, c_int, ctypes.c_size_t)
    _libjpeg.jpeg_mem_src.argtypes = (c_void_p, ctypes.c_char_p, c_ulong)
    _libjpeg.jpeg_mem_dest.argtypes = (c_void_p, c_void_p, c_void_p)
    _libjpeg.jpeg_read_header.argtypes = (c_void_p, c_int)
    _libjpeg.jpeg_read_coefficients.restype = POINTER(c_void_p)
_libc.free.argtypes = (c_void_p,)
