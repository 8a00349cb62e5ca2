"""Reading npz files and pickles that other people wrote, without running what may be hidden in them.

Object arrays inside an npz file are pickles, and a pickle can call any function. The unpickler here admits NumPy
arrays, dtypes and scalars and plain containers, as NumPy 1 (`numpy.core`) and NumPy 2 (`numpy._core`) write them, and
refuses every other name.
"""
import builtins
import collections
import pickle
import zipfile
from pathlib import Path

import numpy as np

from common.utils import DataError

_PLAIN_BUILTINS = ("complex", "set", "frozenset", "bytearray", "list", "dict", "tuple", "int", "float", "bool", "str",
                   "bytes")


def numpy_internals():
    """NumPy's reconstruction functions, whose home moved from `numpy.core` to `numpy._core`: {name: function}."""
    core = np._core if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else np.core
    return {
        "multiarray._reconstruct": core.multiarray._reconstruct,
        "multiarray.scalar": core.multiarray.scalar,
        "numeric._frombuffer": core.numeric._frombuffer,
    }


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
    admitted[("numpy", "ndarray")] = np.ndarray
    admitted[("numpy", "dtype")] = np.dtype
    for name, function in numpy_internals().items():
        module, _, attribute = name.partition(".")
        for core in ("numpy.core", "numpy._core"):
            admitted[(f"{core}.{module}", attribute)] = function
    for code in np.typecodes["All"]:
        # Pickled arrays name the class of their dtype in some versions (numpy.dtypes.Float64DType).
        dtype_class = type(np.dtype(code))
        admitted[(dtype_class.__module__, dtype_class.__name__)] = dtype_class
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
            raise RefusedGlobal(f"{module}.{name}") from None


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
    array = PlainUnpickler(stream).load()
    if not isinstance(array, np.ndarray) or array.size != int(np.prod(shape)):
        raise ValueError("holds an object array whose pickle is not that array")
    array = array.reshape(shape)
    if array.ndim:
        return array
    value = array.item()
    return PlainDict(value) if type(value) in (dict, collections.OrderedDict) else value


def load_npz(path):
    """Read every array of an npz file: {name: array}; a 0-d object array gives the object in it (usually a dict).

    Raises DataError, in one line that names the file, where it is missing, truncated, damaged or holds a pickle of
    anything else than NumPy data and plain containers.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; prepare it or point --data-dir to its folder (data/README.md)")
    content, member = {}, ""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as stream:
                    content[member.removesuffix(".npy")] = _read_array(stream)
    except RefusedGlobal as error:
        raise DataError(f"{path}: {member} refused: its pickle asks for {error}, which is not data; do not trust this "
                        "file, get it from its author again") from None
    except OSError as error:
        raise DataError(f"{path}: could not be read ({error.strerror or error})") from None
    except Exception as error:  # damaged zip and pickle streams raise about anything
        reason = f"{member}: {error}" if member else str(error)
        raise DataError(f"{path}: damaged or truncated ({reason or type(error).__name__}); copy or prepare it "
                        "again") from None
    return content
