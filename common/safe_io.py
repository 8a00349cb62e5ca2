"""Reading npz, npy and pickle files that other people wrote, without running what may be hidden in them.

Object arrays inside an npz or npy file are pickles, and a pickle can call any function. The unpickler here admits NumPy
arrays, dtypes and scalars and plain containers, as NumPy 1 (`numpy.core`) and NumPy 2 (`numpy._core`) write them, and
refuses every other name.
"""
import builtins
import collections
import contextlib
import pickle
import pickletools
import zipfile
from pathlib import Path

import numpy as np

from common.utils import DataError

_PLAIN_BUILTINS = ("complex", "set", "frozenset", "bytearray", "list", "dict", "tuple", "int", "float", "bool", "str",
                   "bytes")


class PlainDtype:
    """What stands for `numpy.dtype` in a pickle: numbers, text and objects; its flags are never taken from the file.

    NumPy's own dtype believes the flags that a pickle states; an object array that claims to hold none would read its
    pointers from the file. Tables (structured dtypes) are made anew from the names, places and kinds of their fields:
    numbers, text and arrays of them, next to each other or apart but never one over the other.
    """

    def __init__(self, code, *_):
        self.dtype = np.dtype(code)
        # Void is what pickles call a dtype with fields or a shape until `__setstate__` says which; before, it is none.
        self.void_size = self.dtype.itemsize if self.dtype.type is np.void and self.dtype.names is None else None
        if self.void_size is None and not _is_simple(self.dtype):
            raise pickle.UnpicklingError(f"refused the dtype {code!r}")
        if self.dtype.subdtype:
            raise pickle.UnpicklingError(f"refused the dtype {code!r}")

    def __setstate__(self, state):
        _, order, subdtype, names, fields = state[:5]
        if self.void_size is None:
            if subdtype is not None or names is not None or fields is not None:
                raise pickle.UnpicklingError("refused a dtype with fields that is not called void")
            if order in ("<", ">"):
                self.dtype = self.dtype.newbyteorder(order)
        elif subdtype is not None:
            self._finish(_repeated(*subdtype))
        elif names is not None:
            self._finish(_table(names, fields, self.void_size))

    def _finish(self, dtype):
        if dtype.itemsize != self.void_size:
            raise pickle.UnpicklingError("refused a dtype of another size than its fields have")
        self.dtype, self.void_size = dtype, None


def _is_simple(dtype):
    return dtype.kind in "biufcSUO" and not dtype.names and not dtype.subdtype


def _repeated(base, shape):
    """A dtype of arrays of this shape."""
    base = _dtype_of(base)
    shape = shape if type(shape) is tuple else (shape,)
    if not _is_simple(base) or base.hasobject or not all(type(size) is int and size > 0 for size in shape):
        raise pickle.UnpicklingError("refused a dtype of anything else than arrays of numbers or text")
    return np.dtype((base, shape))


def _table(names, fields, itemsize):
    """A dtype with fields: {name: (PlainDtype, offset, perhaps a title)}, of `itemsize` bytes a row."""
    if type(names) is not tuple or not names or type(fields) is not dict:
        raise pickle.UnpicklingError("refused a structured dtype without fields")
    formats, offsets = [_field_dtype(fields[name][0]) for name in names], [fields[name][1] for name in names]
    end = 0
    for offset, dtype in sorted(zip(offsets, formats, strict=True), key=lambda field: field[0]):
        if dtype.names or dtype.hasobject or not dtype.itemsize:
            raise pickle.UnpicklingError("refused a field of anything else than numbers or text")
        if type(offset) is not int or offset < end:
            raise pickle.UnpicklingError("refused fields that lie over each other")
        end = offset + dtype.itemsize
    if end > itemsize:
        raise pickle.UnpicklingError("refused fields outside their row")
    return np.dtype({"names": list(names), "formats": formats, "offsets": offsets, "itemsize": itemsize})


class PlainArray(np.ndarray):
    """An array while it is being unpickled; `plain` turns it into an ordinary one."""

    def __setstate__(self, state):
        version, shape, dtype, fortran, data = state
        dtype = _dtype_of(dtype)
        if isinstance(data, list) != dtype.hasobject:
            raise pickle.UnpicklingError("refused an array whose data are not of its dtype")
        super().__setstate__((version, shape, dtype, fortran, data))


def _dtype_of(value):
    dtype = _field_dtype(value)
    if dtype.subdtype:  # exists in fields only: an array that is told to have it would not know its own size
        raise pickle.UnpicklingError("refused an array of arrays")
    return dtype


def _field_dtype(value):
    if type(value) is not PlainDtype or value.void_size is not None:
        raise pickle.UnpicklingError("refused an array without a dtype")
    return value.dtype


def _reconstruct(*_):
    return PlainArray((0,), np.int8)


def _scalar(dtype, data):
    return _frombuffer(data, dtype, (), "C")[()]


def _frombuffer(data, dtype, shape, order, axes=None):
    dtype = _dtype_of(dtype)
    if dtype.hasobject:
        raise pickle.UnpicklingError("refused objects in raw bytes")
    if isinstance(data, str):  # of Python 2
        data = data.encode("latin1")
    if order == "K" and axes is not None:  # NumPy 2.3 and later: stored in the order that its memory had
        return np.frombuffer(data, dtype).reshape(shape).transpose(axes).copy(order="K")
    return np.frombuffer(data, dtype).reshape(shape, order=order).copy(order=order)


class _ArrayType:
    """What stands for `numpy.ndarray`, which pickles name only to say what `_reconstruct` is to make."""


# What pickles of NumPy 1 (`numpy.core`) and NumPy 2 (`numpy._core`) name, and what is called for it here.
NUMPY_GLOBALS = {"numpy.ndarray": _ArrayType, "numpy.dtype": PlainDtype} | {
    f"{core}.{name}": function for core in ("numpy.core", "numpy._core")
    for name, function in {"multiarray._reconstruct": _reconstruct, "multiarray.scalar": _scalar,
                           "numeric._frombuffer": _frombuffer}.items()
}


def plain(value):
    """`value` with ordinary arrays in place of those still of the unpickler's type, in all plain containers."""
    if isinstance(value, dict):
        for key in value:
            value[key] = plain(value[key])
    elif isinstance(value, list):
        value[:] = [plain(item) for item in value]
    elif type(value) is tuple:
        return tuple(plain(item) for item in value)
    elif isinstance(value, np.ndarray):
        value = value.view(np.ndarray)
        if value.dtype.hasobject:
            for place in np.ndindex(value.shape):
                value[place] = plain(value[place])
    return value


def encode_latin1(text, encoding):
    """`_codecs.encode` as old pickles call it for raw bytes, and for nothing else."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"refused the codec {encoding!r}")
    return text.encode("latin1")


def _admitted_globals():
    admitted = {("builtins", name): getattr(builtins, name) for name in _PLAIN_BUILTINS}
    admitted |= {("__builtin__", name): value for (_, name), value in list(admitted.items())}
    admitted[("collections", "OrderedDict")] = collections.OrderedDict
    admitted[("_codecs", "encode")] = encode_latin1
    admitted |= {tuple(name.rsplit(".", 1)): value for name, value in NUMPY_GLOBALS.items()}
    return admitted


class RefusedGlobal(pickle.UnpicklingError):
    """A pickle asked for a name that plain data does not need."""


class PlainUnpickler(pickle.Unpickler):
    """Unpickles NumPy arrays, scalars and plain containers; any other global raises `RefusedGlobal`."""

    _admitted = None

    def find_class(self, module, name):
        if PlainUnpickler._admitted is None:
            PlainUnpickler._admitted = _admitted_globals()
        try:
            return self._admitted[(module, name)]
        except KeyError:
            raise RefusedGlobal(" ".join(f"{module}.{name}".split())) from None


def unpickle(stream, **options):
    """What the pickle at the place of an open, seekable stream holds, in plain types; see `PlainUnpickler`.

    What was seen before is numbered in a pickle, and Python makes room up to the highest number: one that is higher
    than there are steps would only ask for memory.
    """
    start = stream.tell()
    for step, (opcode, number, _) in enumerate(pickletools.genops(stream)):
        if opcode.name.endswith("PUT") and number > step:
            raise pickle.UnpicklingError(f"refused the number {number} in step {step}")
    stream.seek(start)
    return plain(PlainUnpickler(stream, **options).load())


class PlainDict(dict):
    """A dictionary out of an npz file; `.item()` gives itself, for code written for `np.load(...)[key].item()`."""

    def item(self):
        return self

    def __reduce__(self):
        """Pickle as a plain dictionary: a file that is saved again must load anywhere."""
        return dict, (dict(self),)


def _read_array(stream):
    """One array from an open `.npy` stream; object arrays go through `PlainUnpickler`."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"has the unknown array format {version}")
    if not dtype.hasobject:
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)
    array = unpickle(stream, encoding="latin1")  # Python 2's bytes are text to Python 3
    if not isinstance(array, np.ndarray) or array.size != int(np.prod(shape)):
        raise ValueError("holds an object array whose pickle is not that array")
    array = array.reshape(shape)
    if array.ndim:
        return array
    value = array.item()
    return PlainDict(value) if type(value) in (dict, collections.OrderedDict) else value


@contextlib.contextmanager
def _one_line_errors(path):
    """DataError that names the file for whatever reading it raises; the block may put what it reads in the list given.
    """
    place = []
    try:
        yield place
    except RefusedGlobal as error:
        what = f"{place[-1]} refused" if place else "refused"
        raise DataError(f"{path}: {what}: its pickle asks for {error}, which is not data; do not trust this file, get "
                        "it from its author again") from None
    except OSError as error:
        raise DataError(f"{path}: could not be read ({error.strerror or error})") from None
    except Exception as error:  # damaged zip and pickle streams raise about anything
        reason = " ".join(f"{place[-1]}: {error}".split() if place else str(error).split())
        raise DataError(f"{path}: damaged or truncated ({reason or type(error).__name__}); copy or prepare it "
                        "again") from None


def load_npz(path):
    """Read every array of an npz file: {name: array}; a 0-d object array gives the object in it (usually a dict).

    Raises DataError, in one line that names the file, where it is missing, truncated, damaged or holds a pickle of
    anything else than NumPy data and plain containers.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; prepare it or point --data-dir to its folder (data/README.md)")
    content = {}
    with _one_line_errors(path) as place, zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            place.append(member)
            with archive.open(member) as stream:
                content[member.removesuffix(".npy")] = _read_array(stream)
    return content


def load_npy(path):
    """Read an npy file: its array, or the object in a 0-d object array (usually a dict).

    Raises DataError as `load_npz` does.
    """
    with _opened(path) as stream:
        return _read_array(stream)


def load_pickle(path):
    """Read a pickle file of NumPy data and plain containers, of Python 2 too.

    Raises DataError as `load_npz` does.
    """
    with _opened(path) as stream:
        return unpickle(stream, encoding="latin1")


@contextlib.contextmanager
def _opened(path):
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; prepare it or correct its path (data/README.md)")
    with _one_line_errors(path), open(path, "rb") as stream:
        yield stream
