"""Command lines: what is a flag and what is a value."""
import argparse
import subprocess
import sys

import pytest
from conftest import ROOT

from common.flags import (
    HelpFormatter,
    OneLineParser,
    fraction,
    names,
    natural,
    picture_size,
    positive,
    positive_float,
    split_names,
    widths,
)


@pytest.fixture
def parser():
    parser = OneLineParser(prog="script")
    parser.add_argument("--boxes", nargs="+")
    parser.add_argument("--intrinsics")
    parser.add_argument("--pelvis-depth", type=float)
    parser.add_argument("-k", "--keypoints")
    return parser


def test_numbers_that_begin_with_a_minus_are_values(parser):
    args = parser.parse_args(["--boxes", "-10,20,300,400", "5,-6,7,8", "-.5,-1e2,3,4", "--intrinsics", "-1,2,3,4",
                              "--pelvis_depth", "-3", "-k", "gt"])
    assert args.boxes == ["-10,20,300,400", "5,-6,7,8", "-.5,-1e2,3,4"] and args.intrinsics == "-1,2,3,4"
    assert args.pelvis_depth == -3 and args.keypoints == "gt"
    assert parser.typed == {"boxes", "intrinsics", "pelvis_depth", "keypoints"}


@pytest.mark.parametrize("flags", [["--pelvis-d", "3", "-kgt"], ["--pelvis-d=3", "-k", "gt"]])
def test_a_flag_that_is_shortened_or_has_its_value_attached_is_known_as_typed(parser, flags):
    args = parser.parse_args(flags)
    assert (args.pelvis_depth, args.keypoints) == (3, "gt") and parser.typed == {"pelvis_depth", "keypoints"}
    assert not parser.parse_args([]).keypoints and parser.typed == set()


@pytest.mark.parametrize("flags", [["--boxes", "-x,20,300,400"], ["--boxes", "--unknown"], ["--boxes", "-unknown"]])
def test_anything_else_with_a_minus_is_a_flag(parser, flags, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(flags)
    assert capsys.readouterr().err.startswith("script: ")


@pytest.mark.parametrize("kind, value", [(positive, "abc"), (positive, "0"), (natural, "1.5"), (natural, "-1"),
                                         (fraction, "x"), (fraction, "nan"), (positive_float, "inf"),
                                         (picture_size, "0.1"), (picture_size, "big")])
def test_a_value_that_is_no_number_is_refused_in_the_words_of_one_out_of_range(kind, value, parser, capsys):
    parser.add_argument("--value", type=kind)
    with pytest.raises(SystemExit):
        parser.parse_args(["--value", value])
    error = capsys.readouterr().err
    assert f"{value} is not a" in error and "invalid" not in error and "_" not in error


def test_the_help_names_one_default_and_writes_lists_as_they_are_typed():
    parser = argparse.ArgumentParser(formatter_class=HelpFormatter)
    parser.add_argument("--arc", type=widths, default=[3, 5], help="filter widths (default: the usual ones, (3,3))")
    parser.add_argument("--name", help="a name (default: that of the file)")
    parser.add_argument("--share", default="100%", help="a share")
    lines = " ".join(parser.format_help().split())
    assert "filter widths (default: 3,5)" in lines and "the usual ones" not in lines
    assert "a name (default: that of the file)" in lines and "a share (default: 100%)" in lines
    assert "SUPPRESS" not in lines


@pytest.mark.parametrize("script, expected", [(ROOT / "run_s-agcn.py", "run_s-agcn.py: interrupted"),
                                              ("elsewhere/mine.py", "Traceback")])
def test_ctrl_c_while_a_script_imports_is_one_line(script, expected):
    code = f"import sys; sys.argv = [{str(script)!r}]; import common; raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and done.stderr.startswith(expected)
    assert ("Traceback" in done.stderr) == (expected == "Traceback")


def test_a_name_that_is_listed_twice_counts_once():
    assert names(" S1, S5,S1,,") == split_names("S1,S5,S1", "--subjects") == ["S1", "S5"] and names("*") is None
