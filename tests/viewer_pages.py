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


def number_of(page, row):
    """The numbers in a row of the table of errors."""
    texts = page.locator(f"#figures tr:has(th:has-text('{row}')) td").all_inner_texts()
    return [float(text.replace("−", "-")) for text in texts]
