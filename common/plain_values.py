"""Numbers, texts and skeletons out of files that anybody may have written, checked; and what can be put into files.

Each function takes what JSON or an npz file gives: lists, arrays, numbers or texts. Raises ValueError or TypeError.
"""
import json

import numpy as np

from common.skeleton import Skeleton

LARGEST = 1e15  # that a file may tell of, in any unit: squares of these are far from where float32 ends
DIGITS = 6  # of metres and seconds in JSON
BLOCK = 1000  # rows that are turned into it at once


def one(value):
    """The only number or text in `value`."""
    return np.asarray(value).item()


def text(value):
    """The only text in `value`."""
    value = one(value)
    if not isinstance(value, str):
        raise ValueError("numbers where text belongs")
    return value


def storable(value):
    """A text that any file can hold: file names need not be Unicode."""
    return str(value).encode("utf-8", "replace").decode()


def numbers(values):
    """Numbers of any shape as float64; None is NaN."""
    array = np.asarray(values)
    if array.dtype.kind not in "iufO":
        raise ValueError("text where numbers belong")
    array = array.astype(np.float64)
    if (np.abs(array) > LARGEST).any():
        raise ValueError(f"numbers beyond {LARGEST:g}")
    return array


def json_pieces(values, bar):
    """The JSON text of an array, some rows at a time: as lists, numbers take ten times the memory.

    `null` is what is not finite. bar: of `common.utils.progress`, moved on by the numbers.
    """
    if not values.ndim:
        yield json.dumps(_plain(values), allow_nan=False)
        return
    yield "["
    for start in range(0, len(values), BLOCK):
        rows = values[start:start + BLOCK]
        yield (", " if start else "") + json.dumps(_plain(rows), allow_nan=False)[1:-1]
        bar.update(rows.size)
    yield "]"


def _plain(values):
    """An array as lists, with None for what is not finite; of single numbers, such as rates, all digits."""
    if values.dtype.kind != "f":
        return values.tolist()
    rounded = np.round(values.astype(np.float64), DIGITS) if values.ndim else values
    return rounded.tolist() if np.isfinite(rounded).all() else \
        np.where(np.isfinite(rounded), rounded.astype(object), None).tolist()


def checked(name, values):
    """An array of numbers or text; `name` says which it is not."""
    array = np.asarray(values)
    if array.dtype.kind not in "biufU":
        raise ValueError(f"{name} is not an array of numbers or text")
    return array


def numbers_or_text(name, values):
    """The same out of a file, where None is NaN."""
    array = np.asarray(values)
    return checked(name, numbers(array) if array.dtype.kind in "fO" else array)


def skeleton_of(parents, names, left, right):
    """A skeleton: a tree of one root, joints with names of their own, different left and right ones."""
    parents, left, right = (_indices(values) for values in (parents, left, right))
    names = np.asarray(names)
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) != len(names) or \
            not all(name.strip() and name.isprintable() for name in names.tolist()):
        raise ValueError("joints without names of their own")
    if parents.count(-1) != 1 or any(not -1 <= parent < len(parents) for parent in parents):
        raise ValueError("the parents are no tree of one root")
    rooted = set()
    for joint in range(len(parents)):
        way = set()
        while joint >= 0 and joint not in rooted:
            if joint in way:
                raise ValueError("the parents go in circles")
            way.add(joint)
            joint = parents[joint]
        rooted |= way
    sides = left + right
    if len(set(sides)) != len(sides) or any(not 0 <= joint < len(parents) for joint in sides):
        raise ValueError("left and right joints that there are not, or twice")
    return Skeleton(parents, left, right, names.tolist())


def _indices(values):
    values = np.asarray(values)
    if values.ndim != 1 or len(values) and values.dtype.kind not in "iu":
        raise ValueError("joint numbers that are no whole numbers")
    return values.tolist()
