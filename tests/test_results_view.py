"""results.py view and compare, as processes: what they print and write, and what they refuse."""
import os
import re
import signal
import socket
import urllib.error
import urllib.request

import numpy as np
import pytest
from conftest import run_script, start
from viewer_pages import make_prediction

from common.export import write_prediction
from common.loss import mean_velocity_error, p_mpjpe
from common.video import open_writer


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with a.npz and b.json of one sequence, other.npz of another, and own.npz, which names its video."""
    folder = tmp_path_factory.mktemp("results")
    write_prediction(folder / "a.npz", make_prediction())
    write_prediction(folder / "b.json", make_prediction(seed=1))
    write_prediction(folder / "other.npz", make_prediction(9))
    with open_writer(folder / "in.mp4", 25, 64, 48) as writer:
        for _ in range(30):
            writer.write(np.zeros((48, 64, 3), np.uint8))
    write_prediction(folder / "own.npz", make_prediction(ground_truth=None, source={"video": str(folder / "in.mp4")}))
    return folder


def test_view_writes_a_page_beside_the_results_with_the_video_that_they_name(results, tmp_path):
    viewed = run_script("results.py", "view", results / "own.npz")
    assert viewed.status == 0 and f"written to {results / 'own.html'}" in viewed.out, viewed.err
    assert 'id="data-video"' in (results / "own.html").read_text()
    plain = run_script("results.py", "view", results / "own.npz", "--no-video", "--output", tmp_path / "new" / "p.html")
    assert plain.status == 0 and 'id="data-video"' not in (tmp_path / "new" / "p.html").read_text()


def test_compare_prints_the_errors_of_both_and_writes_their_page(results):
    compared = run_script("results.py", "compare", results / "a.npz", results / "b.json", "--labels", "ours,theirs")
    assert compared.status == 0, compared.err
    lines = compared.out.splitlines()
    assert lines[0].split() == ["ours", "theirs", "difference"]
    assert lines[-1] == f"viewer written to {results / 'a_vs_b.html'}" and (results / "a_vs_b.html").is_file()
    table = {re.split(" {2,}", line)[0]: [float(n) for n in re.findall(r"[-+]?\d+\.\d", line)] for line in lines[1:-2]}
    poses = [make_prediction(seed=seed) for seed in (0, 1)]
    off = [(pose.joints - pose.joints[:, :1], pose.ground_truth - pose.ground_truth[:, :1]) for pose in poses]
    expected = {"MPJPE (mm)": [np.sqrt(((a - b) ** 2).sum(-1)).mean() for a, b in off],
                "P-MPJPE (mm)": [p_mpjpe(a, b) for a, b in off],
                "MPJVE (mm per frame)": [mean_velocity_error(a, b) for a, b in off],
                "left_knee (mm)": [np.sqrt(((a - b) ** 2).sum(-1))[:, 5].mean() for a, b in off]}
    for name, values in expected.items():
        np.testing.assert_allclose(table[name][:2], 1000 * np.array(values), atol=0.06, err_msg=name)
    frames = [np.sqrt(((a - b) ** 2).sum(-1)).mean(1) for a, b in off]
    better = [int((frames[0] < frames[1]).sum()), int((frames[1] < frames[0]).sum())]
    assert [int(number) for number in re.findall(r"\d+", lines[-2])] == [*better, len(poses[0])]


@pytest.mark.parametrize("arguments, status, words", [
    (["view"], 2, ["one results file", "--compare"]),
    (["view", "a.npz", "--output", "a.png"], 2, ["a.png", ".html"]),
    (["view", "a.npz", "--labels", "x,y"], 2, ["--labels x,y", "1"]),
    (["view", "none.npz"], 3, ["none.npz"]),
    (["view", "a.npz", "--video", "none.mp4"], 3, ["none.mp4"]),
    (["view", "own.npz", "--video-skip", "99"], 3, ["in.mp4", "99"]),
    (["compare", "a.npz", "other.npz"], 3, ["a and other", "24 frames", "9"]),
])
def test_what_cannot_be_shown_is_refused_in_one_line_and_leaves_no_page(results, tmp_path, arguments, status, words):
    arguments = [str(results / word) if word.endswith((".npz", ".mp4", ".png")) else word for word in arguments]
    if "--output" not in arguments and len(arguments) > 1:
        arguments += ["--output", str(tmp_path / "p.html")]
    run_script("results.py", *arguments).assert_fails(status, *words)
    assert not list(tmp_path.iterdir())


def test_serve_shows_the_page_and_nothing_else_until_ctrl_c_and_a_taken_port_is_told(results, tmp_path):
    page = tmp_path / "p.html"
    process = start(["results.py", "view", results / "a.npz", "--output", page, "--serve", "--port", 0])
    try:
        lines = [process.stdout.readline(), process.stdout.readline()]
        port = int(re.search(r"http://localhost:(\d+)/", lines[1])[1])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
            assert answer.read() == page.read_bytes()
        head = urllib.request.Request(f"http://127.0.0.1:{port}/", method="HEAD")
        with urllib.request.urlopen(head) as answer:
            assert int(answer.headers["Content-Length"]) == page.stat().st_size and not answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/p.html")
        other = run_script("results.py", "view", results / "a.npz", "--output", tmp_path / "q.html", "--serve",
                           "--port", port)
        other.assert_fails(2, str(port), "--port 0")
        assert not (tmp_path / "q.html").exists()
    finally:
        process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
        err = process.communicate(timeout=200)[1]
    assert process.returncode == 0 and not err, err
    with socket.socket() as free:
        assert free.connect_ex(("127.0.0.1", port)) != 0
