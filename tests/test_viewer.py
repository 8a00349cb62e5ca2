"""The viewer's page in a real browser: what it shows, what it does, and that nothing out of a file runs in it."""
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from viewer_pages import FRAMES, drag, graph_point, make_prediction, number_of, pinch, pixels, until, watched

from common.keypoints import H36M_17
from common.skeleton import Skeleton
from common.utils import DataError, UsageError
from common.viewer import write_viewer

STEP = 10  # of the tests' video, whose frame n has the brightness STEP * n
HOSTILE = "</script><script>window.broken = 1</script>\"'><img src=x onerror=window.broken=1>"
TIMES = np.cumsum(1 + np.arange(FRAMES) % 3) / 25  # uneven: steps of 40, 80 and 120 ms


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip("no Chromium")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def window(browser):
    """(page, its list of what is wrong) for all tests that need no other: a new one takes longer than the page."""
    wrong = []
    return watched(browser.new_page(viewport={"width": 1000, "height": 640}), wrong), wrong


@pytest.fixture
def show(browser, window, tmp_path):
    """show(predictions, ...) opens their page; at the end none of them may have had an error or asked the network."""
    usual, wrong = window
    contexts = []

    def open_page(*predictions, labels=None, video=None, skip=0, address="", **context):
        path = tmp_path / "page.html"
        write_viewer(path, list(predictions), labels or ["ours", "theirs"][:len(predictions)], video, skip)
        page = usual
        if context:
            contexts.append(browser.new_context(**{"viewport": {"width": 1000, "height": 640}, **context}))
            page = watched(contexts[-1].new_page(), wrong)
        page.goto(path.as_uri() + address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    found = [*wrong]
    wrong.clear()
    assert found == []


def test_the_page_draws_plays_and_changes_with_the_frame(show):
    page = show(make_prediction())
    first = pixels(page, "scene")
    assert first[0] > 1000 and pixels(page, "points")[0] > 100 and pixels(page, "graph-canvas")[0] > 300
    page.click("#play")
    until(page, "viewer.frame > 3")
    page.click("#play")
    assert not page.evaluate("viewer.playing")
    assert pixels(page, "scene") != first


def test_frames_are_shown_as_long_as_their_times_say(show):
    page = show(make_prediction(times=TIMES + 7))
    shown = [page.evaluate(f"viewer.seek({n}), viewer.time") for n in range(FRAMES)]
    np.testing.assert_allclose(shown, TIMES - TIMES[0], atol=1e-9)


def test_keys_step_play_change_the_speed_and_flip_switches(show):
    page = show(make_prediction())
    for key, frame in (("ArrowRight", 1), ("Shift+ArrowRight", 11), ("ArrowLeft", 10), ("Shift+ArrowLeft", 0),
                       ("End", FRAMES - 1), ("Home", 0)):
        page.keyboard.press(key)
        assert page.evaluate("viewer.frame") == frame, key
    page.keyboard.press("ArrowUp")
    page.keyboard.press("t")
    page.keyboard.press("e")
    until(page, "document.getElementById('speed').value === '1.5'")
    assert page.evaluate("[viewer.state.truth, viewer.state.colour]") == [False, "error"]
    page.keyboard.press("Space")
    assert page.evaluate("viewer.playing")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible() and "Ten frames" in page.locator("#keys").inner_text()


def test_slider_timeline_and_address_lead_to_their_frame(show):
    page = show(make_prediction(101), address="#frame=33")
    assert page.evaluate("viewer.frame") == 33
    page.locator("#scrub").fill("50")
    assert page.evaluate("viewer.frame") == 50
    page.mouse.click(*graph_point(page, 0.8))
    assert page.evaluate("viewer.frame") == 80
    until(page, "location.hash === '#frame=80'")


def test_the_wheel_zooms_the_timeline_about_the_pointer(show):
    page = show(make_prediction(101))
    whole = pixels(page, "graph-canvas")
    page.mouse.move(*graph_point(page, 0.8))
    page.mouse.wheel(0, -600)
    page.wait_for_selector("#timeline-all:visible")
    span = 100 * math.exp(-0.002 * 600)
    for share in (0, 0.8, 1):
        page.mouse.click(*graph_point(page, share))
        assert page.evaluate("viewer.frame") == round(80 + (share - 0.8) * span)
    page.click("#timeline-all")
    assert pixels(page, "graph-canvas") == whole


def test_the_numbers_are_those_of_the_metric(show):
    prediction = make_prediction()
    page = show(prediction, address="#frame=5")
    errors = [[1000 * math.dist(pose[joint] - pose[0], truth[joint] - truth[0]) for joint in range(17)]
              for pose, truth in zip(prediction.joints, prediction.ground_truth, strict=True)]
    assert number_of(page, "MPJPE (P1)") == [pytest.approx(np.mean(errors), abs=0.06)]
    assert number_of(page, "This frame") == [pytest.approx(np.mean(errors[5]), abs=0.06)]


def test_a_joint_that_is_clicked_shows_its_error_over_time_and_where_it_is(show):
    prediction = make_prediction()
    page = show(prediction)
    page.locator("#joints .joint").nth(3).click()
    page.wait_for_selector("#tip:visible")
    assert "right ankle" in page.locator("#timeline-title").inner_text()
    place = ", ".join(f"{value:.3f}" for value in prediction.joints[0, 3]).replace("-", "−")
    assert place in page.locator("#tip").inner_text()
    before = pixels(page, "scene")
    page.evaluate("viewer.seek(20)")
    untrailed = pixels(page, "scene")
    page.evaluate("viewer.toggleTrail([6])")
    assert pixels(page, "scene")[0] > untrailed[0] and untrailed != before
    assert page.locator("#joints .trail").nth(6).get_attribute("aria-pressed") == "true"


def test_mouse_and_keys_turn_and_zoom_and_reset_brings_it_back(show):
    page = show(make_prediction(), reduced_motion="reduce")
    seen = [pixels(page, "scene")]
    box = page.locator("#scene").bounding_box()
    x, y = box["x"] + 300, box["y"] + 100
    keys = [lambda key=key: page.keyboard.press(key) for key in "hu+3"]
    for act in (lambda: drag(page, x, y), lambda: page.mouse.wheel(0, -300), lambda: drag(page, x, y, "right"),
                lambda: drag(page, x, y, modifier="Shift"), *keys):
        act()
        page.mouse.move(x, y)
        seen.append(pixels(page, "scene"))
    assert len(set(seen)) == len(seen)
    page.mouse.move(5, 5)  # off any joint
    page.keyboard.press("0")
    assert pixels(page, "scene") == seen[0]


def test_joints_that_meet_in_a_point_are_drawn(show):
    prediction = make_prediction(ground_truth=None)
    page = show(replace(prediction, joints=1.5 + 1e-6 * prediction.joints))
    assert pixels(page, "scene")[0] > 100 and "1.50, 1.50, 1.50" in page.inner_text("#joints")


@pytest.mark.parametrize("scale, metres_walked", [(1, 1), (0.001, 1), (1000, 1), (1, 80)])
def test_whoever_is_shown_fills_the_picture(show, scale, metres_walked):
    prediction = make_prediction(keypoints_2d=None, skeleton_2d=None)
    walked = scale * np.linspace(0, metres_walked, FRAMES)[:, None, None] * np.array([1, 0, 0])
    bigger = {name: scale * getattr(prediction, name) + walked for name in ("joints", "ground_truth")}
    page = show(replace(prediction, **bigger), address="#frame=12")
    assert page.evaluate("viewer.state.follow") == (metres_walked > 10)
    pixels(page, "scene")
    height, top, bottom = page.evaluate("""() => {
        const canvas = document.getElementById("scene");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const rows = [...Array(canvas.height).keys()].filter((y) => {
            for (let x = 0; x < canvas.width; x++) if (data[4 * (y * canvas.width + x) + 3]) return true;
        });
        return [canvas.height, rows[0], rows.at(-1)];
    }""")
    assert 0 < top and bottom < height - 1 and bottom - top > 0.5 * height


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video of more than the poses: the first 3 frames come before them."""
    from common.video import open_writer

    path = tmp_path_factory.mktemp("video") / "bright.mp4"
    with open_writer(path, 25, 64, 48, times=np.append([0, 0.04, 0.08], 0.12 + TIMES)) as writer:
        for number in range(-3, FRAMES):
            writer.write(np.full((48, 64, 3), max(0, STEP * number), np.uint8))
    return path


def picture_number(page):
    """The number of the frame that the video shows, by its brightness."""
    return page.evaluate("""() => {
        const small = new OffscreenCanvas(1, 1).getContext("2d");
        small.drawImage(document.getElementById("video"), 0, 0, 1, 1);
        return small.getImageData(0, 0, 1, 1).data[1];
    }""") / STEP


@pytest.mark.parametrize("times", [None, TIMES], ids=["even", "uneven"])
def test_the_video_shows_the_frame_of_the_pose(show, video, times):
    page = show(make_prediction(times=times), video=video, skip=3)
    page.wait_for_selector("#video:visible", timeout=10000)
    for frame in (7, 0, FRAMES - 1, 12):
        page.evaluate(f"viewer.seek({frame})")
        until(page, "!document.getElementById('video').seeking")
        assert picture_number(page) == pytest.approx(frame, abs=0.3)
    page.evaluate("viewer.setSpeed(0.5), viewer.play()")
    until(page, "viewer.frame > 15")
    shown, posed = page.evaluate("""() => new Promise((done) => {
        const video = document.getElementById("video");
        const small = new OffscreenCanvas(1, 1).getContext("2d");
        video.requestVideoFrameCallback(() => requestAnimationFrame(() => {
            small.drawImage(video, 0, 0, 1, 1);
            done([small.getImageData(0, 0, 1, 1).data[1], viewer.frame]);
        }));
    })""")
    assert shown / STEP == pytest.approx(posed, abs=1.3)  # within a frame of each other while it plays


def test_a_video_that_ends_before_the_poses_start_is_refused(tmp_path, video):
    with pytest.raises(DataError, match="ends before frame 99"):
        write_viewer(tmp_path / "a.html", [make_prediction()], ["a"], video, 99)
    assert not list(tmp_path.iterdir())


def test_a_video_that_may_be_another_is_told_of_and_one_that_ends_early_on_the_page(show, video, capsys):
    page = show(replace(make_prediction(FRAMES + 5, size=(64, 64)), fps=50), video=video, skip=3)
    rate, shape = capsys.readouterr().out.splitlines()
    assert "the poses 50" in rate and "64 x 48" in shape and "64 x 64" in shape
    assert f"after {FRAMES} of {FRAMES + 5}" in page.locator("#notice").inner_text()


def test_a_video_too_long_for_a_page_is_left_out_and_told_of(show, video, capsys):
    page = show(replace(make_prediction(), fps=0.005), video=video)
    for told in (page.locator("#notice").inner_text(), capsys.readouterr().out):
        assert "left out: 77 minutes are too long" in told
    assert not page.locator("#video").is_visible()


def test_a_frame_without_2d_joints_says_so(show):
    points = make_prediction().keypoints_2d.copy()
    points[5] = np.nan
    page = show(make_prediction(keypoints_2d=points), address="#frame=5")
    assert pixels(page, "points")[0] > 100


def test_a_phone_gets_a_stacked_page_with_targets_for_fingers(show):
    page = show(make_prediction(), make_prediction(seed=1), labels=["detectron_pt_coco", "cpn_ft_h36m_dbb"],
                viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, reduced_motion="reduce")
    for width, height in ((844, 390), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for name in ("#play", "#views"):
            box = page.locator(name).bounding_box()
            assert 0 < box["x"] < width - box["width"] and 0 < box["y"] <= height - box["height"]  # in reach
        assert box["y"] + box["height"] < page.locator(".transport").bounding_box()["y"]
    small = page.evaluate("""[...document.querySelectorAll("main button, main select, header button, main input")]
        .filter((one) => one.offsetParent).map((one) => [one.id || one.textContent, one.getBoundingClientRect()])
        .filter(([, box]) => box.height < 40 || box.width < 40).map(([name]) => name)""")
    assert small == []
    assert page.evaluate("""[...document.querySelectorAll("button, select, input")]
        .every((one) => one.textContent.trim() || one.ariaLabel)""")
    page.tap("#forward")
    assert page.evaluate("viewer.frame") == 1
    before = pixels(page, "scene")
    pinch(page, "scene")
    assert pixels(page, "scene")[0] > 1.2 * before[0]  # larger
    pinch(page, "graph")
    assert page.locator("#timeline-all").is_visible()


def test_two_methods_are_compared_with_their_difference(show):
    ours, theirs = make_prediction(), make_prediction(seed=1)
    order = list(range(17))[::-1]
    parents = [16 - parent if parent >= 0 else -1 for parent in H36M_17.parents()][::-1]
    turned = Skeleton(parents, [16 - j for j in H36M_17.joints_left()], [16 - j for j in H36M_17.joints_right()],
                      H36M_17.names()[::-1])
    page = show(ours, replace(theirs, joints=theirs.joints[:, order], skeleton=turned, ground_truth=None))
    expected = [pose.errors_mm().mean() for pose in (ours, theirs)]
    np.testing.assert_allclose(number_of(page, "MPJPE (P1)"), [*expected, expected[0] - expected[1]], atol=0.06)
    assert page.locator("#timeline-legend").inner_text().split() == ["ours", "theirs"]
    overlaid = pixels(page, "scene")
    page.keyboard.press("s")
    assert pixels(page, "scene") != overlaid


def test_without_ground_truth_two_methods_show_how_far_they_are_apart(show):
    ours, theirs = (make_prediction(seed=seed, ground_truth=None) for seed in (0, 1))
    page = show(ours, theirs)
    relative = [pose.joints - pose.joints[:, :1] for pose in (ours, theirs)]
    apart = 1000 * np.sqrt(((relative[0] - relative[1]) ** 2).sum(-1)).mean()
    assert number_of(page, "Whole sequence") == [pytest.approx(apart, abs=0.06)]


def test_a_bare_prediction_in_the_camera_shows_the_coordinates_of_the_file(show):
    given = {"ground_truth": None, "keypoints_2d": None, "skeleton_2d": None, "frame": "camera", "source": {}}
    prediction = make_prediction(1, **given)
    page = show(prediction)
    page.evaluate("viewer.select(0)")
    place = ", ".join(f"{value:.3f}" for value in prediction.joints[0, 0]).replace("-", "−")
    page.wait_for_selector("#tip:visible")
    assert place in page.locator("#tip").inner_text()
    assert not page.locator("#timeline").is_visible() and not page.locator("#input").is_visible()


def test_dark_mode_is_dark_and_light_mode_light(show):
    page, shades = show(make_prediction()), []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        shades.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    page.emulate_media(color_scheme="light")
    light, dark = (np.mean([int(part) for part in shade.strip("rgb()").split(",")[:3]]) for shade in shades)
    assert light > 200 and dark < 50


def test_text_out_of_a_file_never_runs(show):
    names = [f"{HOSTILE}{'x' * 200}{number}" for number in range(17)]
    skeleton = Skeleton(H36M_17.parents(), H36M_17.joints_left(), H36M_17.joints_right(), names)
    hostile = replace(make_prediction(), skeleton=skeleton,
                      source={"action": HOSTILE, "command": HOSTILE, "checkpoint": HOSTILE})
    page = show(hostile, labels=[HOSTILE])
    page.evaluate("viewer.select(2)")
    page.wait_for_selector("#tip:visible")
    assert page.evaluate("window.broken") is None and page.locator("img").count() == 0
    assert page.locator("#graph").bounding_box()["width"] < 700  # of 1000: no name pushes the page apart
    assert HOSTILE in page.locator("#title").inner_text() and HOSTILE in page.title()


def test_what_is_no_page_or_no_pair_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match=r"\.html"):
        write_viewer(tmp_path / "a.npz", [make_prediction()], ["a"])
    moved = make_prediction()
    moved = replace(moved, ground_truth=moved.ground_truth + 1)
    for other, word in ((make_prediction(9), "24 frames and the other 9"), (moved, "1000 mm apart"),
                        (replace(make_prediction(), frame="camera"), "camera coordinates")):
        with pytest.raises(DataError, match=word):
            write_viewer(tmp_path / "a.html", [make_prediction(), other], ["a", "b"])
    assert not list(tmp_path.iterdir())
