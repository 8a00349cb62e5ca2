"""Archives that are damaged or hostile in the ways that their headers allow, and what is found in them."""
import gzip
import io
import os
import tarfile

import pytest

from common.archives import extract
from common.h36m_raw import find_file
from common.utils import DataError

BODY = b"0123456789"
END = bytes(1024)


def member(name="S1/a.mp4", size=10, **more):
    info = tarfile.TarInfo(name)
    info.size = size
    for key, value in more.items():
        setattr(info, key, value)
    return info


def entry(info=None, body=BODY, kind=tarfile.GNU_FORMAT):
    """The bytes of a header and its body."""
    return (info or member()).tobuf(kind) + body.ljust(-len(body) % 512 + len(body), b"\0")


def extension(kind, body):
    """The bytes of a header of extension: `L` a long name, `x` a record of POSIX."""
    return entry(member("extension", len(body), type=kind), body)


def try_archive(folder, content):
    """What `extract` says of these bytes of a tar, and {name: bytes} of what came out."""
    (folder / "a.tgz").write_bytes(gzip.compress(content))
    damage = extract(folder / "a.tgz", folder / "out", (".mp4",))
    return damage, {path.relative_to(folder / "out").as_posix(): path.read_bytes()
                    for path in (folder / "out").rglob("*.mp4") if path.is_file()}


def wrong_checksum():
    second = bytearray(entry(member("S1/b.mp4")))
    second[10] ^= 1
    return bytes(second) + END


@pytest.mark.parametrize("rest", [b"", entry(member("S1/b.mp4"))[:200], wrong_checksum(),
                                  entry(member("S1/b.mp4"))[:520], entry(member("S1/b.mp4", 1 << 50))],
                         ids=["at a member", "in a header", "checksum", "in a body", "declared size"])
def test_a_tar_that_ends_early_inside_a_whole_gzip_stream_is_damaged(tmp_path, rest):
    damage, files = try_archive(tmp_path, entry() + rest)
    assert damage.startswith("truncated or damaged after 1 files") and files == {"S1/a.mp4": BODY}


@pytest.mark.parametrize("content", [
    extension(b"L", b"abc\0") * 2000 + entry(), extension(b"x", b"12 a=bcdefg\n") * 2000 + entry(),
    entry(member(size=-512)), extension(b"x", b"29 GNU.sparse.map=1,2,x,4,5\n\n") + entry(),
    entry() + entry(member("S1/a.mp4/b.mp4")), entry(member("S1/a.mp4/b.mp4")) + entry()],
    ids=["long names", "records", "negative size", "sparse map", "below a file", "over a folder"])
def test_headers_that_cannot_be_are_damage_and_nothing_worse(tmp_path, content):
    damage, files = try_archive(tmp_path, content + END)
    assert damage.startswith("truncated or damaged after ") and len(files) < 2


@pytest.mark.parametrize("time", [b"nan", b"inf", b"-1", b"1e99"])
def test_the_time_of_a_member_may_be_anything(tmp_path, time):
    record = b" mtime=" + time + b"\n"
    record = str(len(record) + 2).encode() + record
    assert try_archive(tmp_path, extension(b"x", record) + entry() + END) == (None, {"S1/a.mp4": BODY})


def sparse():
    """A sparse member: ten bytes that declare two million."""
    header = bytearray(member(size=0).tobuf(tarfile.GNU_FORMAT))
    header[156:157], header[386:410], header[483:495] = b"S", b"00000000000\x0000000000000\0", b"00010000000\0"
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * ord(" "))
    return bytes(header)


@pytest.mark.parametrize("content, words", [
    (sparse(), "a device or the like"), (extension(b"L", b"x" * 300 + b".mp4\0") + entry(), "name that is too long"),
    (extension(b"L", b"x/" * 600 + b"a.mp4\0") + entry(), "name that is too long"),
    (extension(b"x", b"17 path=a\0b.mp4\n") + entry(), "cannot be printed"),
    (entry(member("S1/\u202e4pm.mp4")), "cannot be printed")],
    ids=["sparse", "long name", "long path", "zero byte", "right to left"])
def test_members_that_no_owner_packs_are_refused(tmp_path, content, words):
    with pytest.raises(DataError, match=f"refused: its member .* {words}"):
        try_archive(tmp_path, content + END)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tgz"]


def test_of_members_with_one_name_the_last_counts(tmp_path):
    assert try_archive(tmp_path, entry() + entry(body=BODY[::-1]) + END) == (None, {"S1/a.mp4": BODY[::-1]})


def test_what_was_extracted_and_is_gone_or_cut_is_extracted_again(tmp_path):
    content = entry() + entry(member("S1/b.mp4")) + END
    _, files = try_archive(tmp_path, content)
    marked = (tmp_path / "out" / "archive.json").stat().st_mtime_ns
    assert extract(tmp_path / "a.tgz", tmp_path / "out", (".mp4",)) is None
    assert (tmp_path / "out" / "archive.json").stat().st_mtime_ns == marked
    for spoil in (os.unlink, lambda path: os.truncate(path, 3)):
        spoil(tmp_path / "out" / "S1" / "b.mp4")
        extract(tmp_path / "a.tgz", tmp_path / "out", (".mp4",))
        assert (tmp_path / "out" / "S1" / "b.mp4").read_bytes() == files["S1/b.mp4"]


def test_a_disk_that_cannot_be_read_is_damage_of_the_archive(tmp_path, monkeypatch):
    class Unreadable(gzip.GzipFile):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("gzip.open", lambda path: Unreadable(fileobj=io.BytesIO()))
    damage, files = try_archive(tmp_path, entry() + END)
    assert "after 0 files" in damage and "Input/output error" in damage and not files


@pytest.mark.parametrize("place", ["", "Videos", "S1/Videos", "h36m/S1/Videos"])
def test_files_are_found_in_archives_that_somebody_packed_anew(tmp_path, place):
    path = tmp_path / place / "Eating 2.54138969.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert find_file(tmp_path, "Videos", "S1", "Eating-1", ".54138969.mp4") == path
    assert find_file(tmp_path, "Videos", "S1", "Eating-2", ".54138969.mp4") is None
