"""Settings that dataclasses declare, once with name, type and default, and that YAML files and flags change.

A key that no dataclass declares is refused with the nearest one that is; so are wrong types. A setting's
`metadata={"choices": ...}` limits its values. Sections are dataclasses inside dataclasses.
"""
import dataclasses
import difflib
import math
import reprlib
import types
import typing
from pathlib import Path

import numpy as np

from common.utils import UsageError, require


def merge(config, content, where):
    """Put nested dicts into a dataclass; where: the file or flag they come from, for the message.

    Raises UsageError, in one line with the place, for keys that do not exist, wrong types and values out of choices.
    """
    _merge(config, config, content, (), where)


def _merge(root, section, content, place, where):
    """`merge` for the section of `root` that the keys in `place` lead to."""
    if content is None:
        return
    if not isinstance(content, dict):
        name = f"{'.'.join(place)} is" if place else "expected"
        raise UsageError(f"{where}: {name} a section of settings, not {_shown(content)}")
    hints = typing.get_type_hints(type(section))
    fields = {item.name: item for item in dataclasses.fields(section)}
    for key, value in content.items():
        here = (*place, str(key))
        if key not in fields:
            near = nearest_key(type(root), here)
            raise UsageError(f"{where}: unknown key {'.'.join(here)}; the nearest known one is {near}")
        if dataclasses.is_dataclass(hints[key]):
            _merge(root, getattr(section, key), value, here, where)
            continue
        value = _converted(value, hints[key], f"{where}: {'.'.join(here)}")
        choices = fields[key].metadata.get("choices")
        if choices and value not in choices:
            raise UsageError(f"{where}: {'.'.join(here)} is {value!r}; choose from {', '.join(map(repr, choices))}")
        setattr(section, key, value)


def _converted(value, wanted, where):
    """`value` as the type that a setting has, or UsageError."""
    if isinstance(wanted, types.UnionType):
        if value is None:
            return None
        wanted = typing.get_args(wanted)[0]
    if wanted == list[int]:
        if isinstance(value, list | tuple) and all(type(item) is int for item in value):
            return list(value)
        raise UsageError(f"{where} must be a list of whole numbers such as [1000], not {_shown(value)}")
    if wanted is float and isinstance(value, str | int) and not isinstance(value, bool):
        try:
            value = float(value)  # YAML takes 1e-4, without a point, for text
        except (ValueError, OverflowError):
            pass
    if wanted is str and value is None:
        return ""
    if type(value) is not wanted or (wanted is float and not math.isfinite(value)):
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise UsageError(f"{where} must be {names[wanted]}, not {_shown(value)}")
    return value


def _shown(value):
    """A value for a message: in YAML, a few lines can stand for a list of billions."""
    text = reprlib.repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def override(config, assignment):
    """Change one setting, or several of a section, by `section.key=value` with the value in YAML.

    Raises UsageError as `merge` does.
    """
    where = f"--set {assignment}"
    name, equals, text = assignment.partition("=")
    if not equals:
        raise UsageError(f"{where}: expected a key, = and a value, as in train.batch_size=2")
    value = _parse(text, where)
    for key in reversed(name.strip().split(".")):
        value = {key: value}
    merge(config, value, where)


def read_yaml(path):
    """The content of a YAML file, plain data only; UsageError for a file that is missing, no YAML or ambiguous."""
    yaml = require("yaml", "pyyaml")
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _strict_loader(yaml))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: could not be read ({getattr(error, 'strerror', None) or error})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: no YAML that can be used ({' '.join(str(error).split())})") from None
    return {} if content is None else content


def _strict_loader(yaml):
    """yaml.SafeLoader, that refuses a key given twice: the first value would be lost without a word."""

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = next((name for name in names if names.count(name) > 1 and name != "<<"), None)
            if twice is not None:
                raise yaml.YAMLError(f"{twice} stands twice in the section of line {node.start_mark.line + 1}")
            return super().construct_mapping(node, deep)

    return Loader


def _parse(text, where):
    yaml = require("yaml", "pyyaml")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{where}: not a YAML value ({' '.join(str(error).split())})") from None


def known_keys(section, place=()):
    """The keys of every setting and section of a dataclass, as tuples from the outermost section in."""
    hints = typing.get_type_hints(section)
    keys = []
    for item in dataclasses.fields(section):
        here = (*place, item.name)
        keys += [here] + (known_keys(hints[item.name], here) if dataclasses.is_dataclass(hints[item.name]) else [])
    return keys


def nearest_key(kind, place):
    """The name of the known key nearest to an unknown one in the dataclass `kind`, as text.

    place: the unknown one's keys from the outermost section in. Its own section is searched first, then the others.
    """
    known = known_keys(kind)
    siblings = {key[-1]: key for key in known if key[:-1] == tuple(place[:-1])}
    elsewhere = {key[-1]: key for key in reversed(known)}
    for names, cutoff in ((siblings, 0.75), (elsewhere, 0.85), (siblings, 0.5), (elsewhere, 0)):
        found = difflib.get_close_matches(place[-1], names, n=1, cutoff=cutoff)
        if found:
            return ".".join(names[found[0]])
    raise AssertionError("a cutoff of 0 finds a name")


def plain_dicts(value):
    """Nested dicts of nested dicts or objects with attributes; NumPy's scalars become Python's."""
    if isinstance(value, dict):
        return {key: plain_dicts(item) for key, item in value.items()}
    if isinstance(value, np.generic) or isinstance(value, np.ndarray) and value.ndim == 0:
        return value.item()
    return plain_dicts(vars(value)) if hasattr(value, "__dict__") else value
