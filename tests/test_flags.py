"""Command lines: what is a flag and what is a value."""
import pytest

from common.flags import OneLineParser


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


@pytest.mark.parametrize("flags", [["--boxes", "-x,20,300,400"], ["--boxes", "--unknown"], ["--boxes", "-unknown"]])
def test_anything_else_with_a_minus_is_a_flag(parser, flags, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(flags)
    assert capsys.readouterr().err.startswith("script: ")
