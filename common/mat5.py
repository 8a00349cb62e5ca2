"""One array of a MATLAB 5 file, read without trusting the file.

SciPy's reader ends the whole process on some damaged files; here every size is checked against the bytes that are
there. Source: MathWorks, "MAT-File Format", level 5.
"""
import math
import struct
import zlib

import numpy as np

HEADER = 128  # bytes
MATRIX, COMPRESSED = 14, 15
CELL, NUMERIC = 1, range(6, 16)  # classes of arrays: from double to uint64
COMPLEX = 0x0800
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
DEEPEST = 4  # cells in cells


def _elements(content, order):
    """Yield (type, bytes) of the elements in `content`; ValueError where one ends early."""
    place = 0
    while place < len(content):
        if len(content) - place < 8:
            raise ValueError("ends early")
        kind, length = struct.unpack_from(f"{order}II", content, place)
        start, padding = place + 8, -length % 8 * (kind != COMPRESSED)
        if kind >> 16:  # a short element, with its bytes inside the tag
            kind, length, start, padding = kind & 0xFFFF, kind >> 16, place + 4, 0
            if length > 4:
                raise ValueError("has a damaged tag")
        if len(content) - start < length:
            raise ValueError("ends early")
        yield kind, content[start:start + length]
        place = max(start + length + padding, place + 8)


def _unpacked(element, most):
    """The one element that is packed in another; ValueError where it ends early or is larger than `most` bytes."""
    stream = zlib.decompressobj()
    content = stream.decompress(element, most)
    if not stream.eof:
        raise ValueError("ends early or is too large")
    return content


def _numbers(kind, content, order):
    if kind not in TYPES:
        raise ValueError(f"has numbers of an unknown type, {kind}")
    return np.frombuffer(content, np.dtype(TYPES[kind]).newbyteorder(order))


def _array(content, order, depth=0):
    """(name, array) of a matrix element; a cell of one gives what is in it, and what holds no real numbers None."""
    elements = _elements(content, order)
    parts = [next(elements, (0, b"")) for _ in range(3)]
    (flags, *_), sizes = (_numbers(*part, order).tolist() or [0] for part in parts[:2])
    name, kind = parts[2][1].decode("latin1"), flags & 0xFF
    if kind == CELL and sizes and math.prod(sizes) == 1 and depth < DEEPEST:
        inner, content = next(elements, (0, b""))
        return name, _array(content, order, depth + 1)[1] if inner == MATRIX and content else None
    if kind not in NUMERIC or flags & COMPLEX:
        return name, None
    values = _numbers(*next(elements, (0, b"")), order)
    if min(sizes) < 0 or math.prod(sizes) != len(values):
        raise ValueError(f"declares {' x '.join(map(str, sizes))} numbers and holds {len(values)}")
    return name, values.reshape(sizes, order="F")


def read_array(content, name, most):
    """The numbers of the variable `name` of a MATLAB 5 file's bytes in their shape, also out of a cell of one.

    Elements unpack to at most `most` bytes. KeyError: there is no such variable; ValueError: the file is damaged, or
    the variable holds no real numbers.
    """
    order = "<" if content[126:128] == b"IM" else ">"
    found = {}
    for kind, element in _elements(content[HEADER:], order):
        if kind == COMPRESSED:
            kind, element = next(_elements(_unpacked(element, most), order), (0, b""))
        if kind == MATRIX and element:
            label, array = _array(element, order)
            found.setdefault(label, array)
    if found[name] is None:
        raise ValueError(f"its variable {name} holds no real numbers")
    return found[name]
