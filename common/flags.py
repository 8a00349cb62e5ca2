"""What all command lines have in common: errors in one line, both spellings of a flag, and the types of values."""
import argparse
import math
import re
import sys

from common.utils import UsageError


class HelpFormatter(argparse.HelpFormatter):
    """Shows the defaults that say something; one that a script sets stands in place of the default that is described.
    """

    def _get_help_string(self, action):
        if action.default in (None, "", False, argparse.SUPPRESS):
            return action.help
        value = ",".join(map(str, action.default)) if isinstance(action.default, list) else str(action.default)
        described = re.sub(r" \(default: .*\)", "", action.help)
        return f"{described} (default: {value.replace('%', '%%')})"


class OneLineParser(argparse.ArgumentParser):
    """Errors are one line on stderr and exit status 2; every flag is taken with underscores too (`--batch_size`).

    What begins with a minus and a digit is a value, never a flag: also several numbers, `--boxes -10,20,300,400`.
    typed: the `dest` of the flags that were given.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = re.compile(r"-\.?\d")  # argparse's own knows single numbers only

    def parse_known_args(self, args=None, namespace=None):
        args = [self._hyphenated(str(arg)) for arg in (sys.argv[1:] if args is None else args)]
        self.typed = set()
        return super().parse_known_args(args, namespace)

    def _get_values(self, action, arg_strings):
        """What argparse asks of every flag that it meets, however it is spelled: whole, shortened, or as -b64."""
        if action.option_strings:
            self.typed.add(action.dest)
        return super()._get_values(action, arg_strings)

    def _hyphenated(self, arg):
        flag, equals, value = arg.partition("=")
        spelled = flag.replace("_", "-")
        return spelled + equals + value if flag.startswith("--") and spelled in self._option_string_actions else arg

    def error(self, message):
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see --help)\n")


def _number(kind, value, good, expected):
    """`value` as a number, `kind` int or float, for which `good` holds; the error says that it is not `expected`."""
    try:
        number = kind(value)
    except ValueError:
        number = None
    if number is None or not good(number):
        raise argparse.ArgumentTypeError(f"{value} is not {expected}")
    return number


def positive(value):
    return _number(int, value, lambda number: number >= 1, "a positive whole number")


def natural(value):
    return _number(int, value, lambda number: number >= 0, "a whole number from 0 on")


def fraction(value):
    return _number(float, value, lambda number: 0 < number <= 1, "a number in (0, 1]")


def probability(value):
    return _number(float, value, lambda number: 0 <= number < 1, "a number in [0, 1)")


def positive_float(value):
    return _number(float, value, lambda number: number > 0 and math.isfinite(number), "a positive number")


def tilt(value):
    return _number(float, value, lambda number: -90 <= number <= 90, "an angle from -90 to 90 degrees")


def frame_rate(value):
    number = positive_float(value)
    if not 1e-6 <= number <= 1e6:
        raise argparse.ArgumentTypeError(f"{value} frames a second are not between 1e-6 and 1e6")
    return number


def picture_size(value):
    return _number(float, value, lambda number: 0.5 <= number <= 40, "a height between 0.5 and 40 inches")


def widths(value):
    try:
        numbers = [int(width) for width in value.split(",")]
    except ValueError:
        numbers = [0]
    if any(width < 1 or width % 2 == 0 for width in numbers):
        raise argparse.ArgumentTypeError(f"{value!r}: filter widths are odd numbers joined by commas, such as 3,3,3")
    return numbers


def boolean(value):
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if value.lower() not in known:
        raise argparse.ArgumentTypeError(f"{value!r} is neither true nor false (1 and 0 are taken too)")
    return known[value.lower()]


SMOOTHING = ("one-euro", "savgol")  # the choices of --smooth
# A flag that turns something on by itself, or as its value says: `-da`, `--data_augmentation True`.
SWITCH = {"nargs": "?", "const": True, "default": False, "type": boolean, "metavar": "BOOL"}


def _listed(text):
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def names(value):
    """A comma-separated list, each name once; `*` stands for all and gives None."""
    listed = _listed(value)
    if not listed:
        raise argparse.ArgumentTypeError("names nothing; leave the flag out for the usual ones")
    return None if listed == ["*"] else listed


def split_names(text, flag, choices=None):
    """The names of a comma-separated list, each once. Raises UsageError for none, and for one not in `choices`."""
    listed = _listed(text)
    if not listed:
        raise UsageError(f"{flag}: names nothing; leave it out for all")
    for name in listed:
        if choices and name not in choices:
            raise UsageError(f"{flag}: unknown {flag.strip('-').removesuffix('s')} {name!r}; choose from "
                             f"{', '.join(choices)}")
    return listed
