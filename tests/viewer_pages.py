"""What the tests of the viewer's pages share: a prediction to show, and what a page in a browser has drawn."""
import time

import numpy as np

from common.export import Prediction
from common.keypoints import COCO_17, H36M_17

FRAMES = 24


def make_prediction(frames=FRAMES, seed=0, **more):
    """A person who walks along x, with errors that differ from frame to frame and joint to joint."""
    rng = np.random.default_rng(seed)
    rest = np.random.default_rng(9).uniform([-0.3, -0.3, 0], [0.3, 0.3, 1.8], (17, 3))
    truth = rest + np.linspace(0, 1, frames)[:, None, None] * [1, 0, 0]
    poses = truth + rng.normal(0, 0.05, truth.shape)
    given = {"ground_truth": truth, "keypoints_2d": rng.uniform(0, 64, (frames, 17, 2)), "size": (64, 48),
             "skeleton_2d": COCO_17, "source": {"action": "Walking", "subject": "S9"}}
    return Prediction(poses, H36M_17, 25, **{**given, **more})


def watched(page, wrong):
    """The page, whose errors, messages and requests to the network go into the list `wrong`."""
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "blob:", "data:"))
            or wrong.append(request.url))
    return page


def pixels(page, canvas):
    """How many pixels of a canvas are drawn on, and a number that changes with the picture; after the next drawing."""
    return tuple(page.evaluate("""async (id) => {
        await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        const canvas = document.getElementById(id);
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
        let [drawn, hash] = [0, 0];
        for (let i = 0; i < data.length; i += 4) {
            if (data[i + 3]) [drawn, hash] = [drawn + 1, (31 * hash + data[i] + i) % 1e9];
        }
        return [drawn, hash];
    }""", canvas))


def until(page, expression):
    """Wait for a JavaScript expression to hold; the page's security policy lets it ask for nothing by itself."""
    end = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def graph_point(page, share):
    """Where a share of the graph's width is on the page, (x, y) in pixels."""
    box = page.locator("#graph").bounding_box()
    left, right = box["x"] + 44, box["x"] + box["width"] - 12  # its margins
    return left + share * (right - left), box["y"] + 40


def drag(page, x, y, button="left", modifier=None):
    """Drag from a point of the page by a little, with a button of the mouse and perhaps a key held down."""
    page.mouse.move(x, y)
    if modifier:
        page.keyboard.down(modifier)
    page.mouse.down(button=button)
    page.mouse.move(x + 60, y + 30)
    page.mouse.up(button=button)
    if modifier:
        page.keyboard.up(modifier)


def pinch(page, identity):
    """Move two fingers apart on an element, to three times as far."""
    box = page.locator(f"#{identity}").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 40
    session = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 20), ("touchMove", 40), ("touchMove", 60), ("touchEnd", None)):
        points = [] if apart is None else [{"x": x + side * apart, "y": y, "id": i} for i, side in enumerate((-1, 1))]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def number_of(page, row):
    """The numbers in a row of the table of errors."""
    texts = page.locator(f"#figures tr:has(th:has-text('{row}')) td").all_inner_texts()
    return [float(text.replace("−", "-")) for text in texts]
