"""Where poses come from: the command, and the weights by their hash."""
import hashlib
import sys

import pytest

from common.source import SOURCE_KEYS, make_source


def test_the_source_tells_the_command_and_the_checkpoint_by_its_hash(tmp_path, monkeypatch):
    (tmp_path / "w.bin").write_bytes(b"weights" * 300_000)
    monkeypatch.setattr(sys, "argv", ["/some/where/run.py", "--x", "a b", "file\udcff"])
    source = make_source(tmp_path / "w.bin", subject="S9", camera=0, video=None)
    assert source == {"command": "run.py --x 'a b' 'file?'", "checkpoint": str(tmp_path / "w.bin"), "subject": "S9",
                      "checkpoint_sha256": hashlib.sha256(b"weights" * 300_000).hexdigest(), "camera": "0"}
    assert "smoothing" in SOURCE_KEYS
    with pytest.raises(ValueError, match="weather"):
        make_source(weather="fine")
