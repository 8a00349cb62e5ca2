"""MATLAB 5 files (`-v7`, `-v6`): arrays of numbers and cells of them, read without trusting a byte.

The usual library reads past the ends of buffers where a file is damaged, and the process dies. Here every length is
checked before it is used. Source: MathWorks, "MAT-File Format", 2019.
"""
import math
import zlib

import numpy as np

HEADER = 128  # bytes: text, version, byte order
MATRIX, COMPRESSED = 14, 15
# By their numbers in the file: what numbers are stored as, and what MATLAB has them as.
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
CELL, COMPLEX = 1, 0x800
LARGEST = 1 << 31  # bytes of a variable
MOST_AXES = 32
START = 1024  # bytes that hold the name of a variable


class Elements:
    """The data elements in some bytes, one after the other. ValueError where they do not fit."""

    def __init__(self, data, order):
        self.data, self.order, self.place = memoryview(data), order, 0

    def next(self):
        """(type, bytes) of the next element."""
        first, size = self._numbers(2)
        if first >> 16:  # a small element: size, type and up to four bytes
            kind, size = first & 0xFFFF, first >> 16
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
            content, self.place = self.data[self.place + 4 : self.place + 4 + size], self.place + 8
            return kind, content
        begin = self.place + 8
        if size > len(self.data) - begin:
            raise ValueError(f"{size} bytes announced, {len(self.data) - begin} there")
        self.place = begin + size + (-size % 8 if first != COMPRESSED else 0)
        return first, self.data[begin : begin + size]

    def _numbers(self, count):
        if len(self.data) - self.place < 4 * count:
            raise ValueError("ends in the middle")
        return np.frombuffer(self.data[self.place : self.place + 4 * count], f"{self.order}u4").tolist()

    def numbers(self):
        """The next element as a flat array of what it stores."""
        kind, content = self.next()
        if kind not in STORED or len(content) % np.dtype(STORED[kind]).itemsize:
            raise ValueError(f"{len(content)} bytes of the type {kind} are no numbers")
        return np.frombuffer(content, f"{self.order}{STORED[kind]}")

    def more(self):
        return self.place < len(self.data)


def read_variables(path, names):
    """{name: array} of the variables `names` (None: all) of a file: numbers, or an object array of them for a cell.

    Axes are as MATLAB shows them; None stands for a variable of another kind (text, structures, complex numbers).
    Raises OSError, and ValueError for a file that is damaged or none of MATLAB's.
    """
    with open(path, "rb") as file:
        return variables_of(file.read(), names)


def variables_of(data, names):
    """`read_variables` of a file's bytes."""
    order = {b"IM": "<", b"MI": ">"}.get(data[126:HEADER])
    if order is None or data[124:126] not in (b"\x00\x01", b"\x01\x00"):
        raise ValueError("not a MATLAB 5 file")
    found, elements = {}, Elements(data[HEADER:], order)
    while elements.more() and (names is None or len(found) < len(names)):
        kind, content = elements.next()
        if kind == COMPRESSED:
            content = _inflated(content, order, names)
        elif kind != MATRIX:
            raise ValueError(f"an element of the type {kind} between variables")
        if content is not None and (name := _header(content, order)[0]) and _wanted(name, names):
            found[name] = _array(content, order)
    return found


def _wanted(name, names):
    return names is None or name in names


def _inflated(content, order, names):
    """The bytes of a compressed variable, or None where its name is not among `names`."""
    stream = zlib.decompressobj()
    start = _inflate(stream, content, START)
    tag = np.frombuffer(start[:8], f"{order}u4").tolist() if len(start) >= 8 else [0, 0]
    if tag[0] != MATRIX or tag[1] > LARGEST:
        raise ValueError(f"compressed is an element of the type {tag[0]}, of {tag[1]} bytes")
    if not _wanted(_header(start[8:], order)[0], names):
        return None
    rest = _inflate(stream, stream.unconsumed_tail, max(1, tag[1] + 8 - len(start)))
    if len(start) + len(rest) < tag[1] + 8:
        raise ValueError("compressed data end in the middle")
    _inflate(stream, stream.unconsumed_tail, 1)  # the checksum
    return (start + rest)[8 : tag[1] + 8]


def _inflate(stream, content, size):
    try:
        return stream.decompress(content, size)
    except zlib.error as error:
        raise ValueError(str(error)) from None


def _header(content, order):
    """(name, class, flags, shape, the elements that follow) of a variable."""
    elements = Elements(content, order)
    flags, shape = elements.numbers(), elements.numbers()
    name = bytes(elements.next()[1]).decode("latin1")
    if len(flags) != 2 or shape.dtype.kind not in "iu" or not 2 <= len(shape) <= MOST_AXES or (shape < 0).any():
        raise ValueError(f"{name!r} has no shape")
    return name, int(flags[0]) & 0xFF, int(flags[0]), tuple(shape.tolist()), elements


def _array(content, order, in_cell=False):
    _, kind, flags, shape, elements = _header(content, order)
    size = math.prod(shape)
    if kind == CELL and not in_cell:
        if size > len(content):  # of which each item takes some
            raise ValueError(f"a cell of the shape {shape}")
        cell = np.empty(size, dtype=object)
        for place in range(size):
            item_kind, item = elements.next()
            if item_kind != MATRIX:
                raise ValueError(f"an element of the type {item_kind} in a cell")
            cell[place] = _array(item, order, in_cell=True) if len(item) else np.empty((0, 0))
        return cell.reshape(shape, order="F")
    if kind not in CLASSES or flags & COMPLEX:
        return None
    values = elements.numbers()
    if len(values) != size:
        raise ValueError(f"{len(values)} numbers for the shape {shape}")
    return values.astype(CLASSES[kind]).reshape(shape, order="F")
