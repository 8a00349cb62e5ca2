"""Poses in motion: the input with its 2D skeleton, then one panel per 3D pose (reconstruction, ground truth).

Everything that stays (rooms, titles, legend) is drawn once; a frame redraws the bones and a few short texts.
"""
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from common.drawing import COLOURS, DPI, PAPER, QUIET, WALL, Bones, Label, Points, Room, put_text, turned
from common.utils import DataError, UsageError, progress, require
from common.video import check_output, open_writer, probe, read_frames, shown_frames

GROUND_TRUTH = "ground truth"  # the title, in any case of letters, that the other poses are measured against
WALK = 3.4  # metres across: a longer way is walked on the spot
SMALLEST = 1.6  # metres: the narrowest room


def place_on_floor(poses, root, azim):
    """Turn poses {title: (T, J, 3)} to the viewer, feet on the floor: ({title: poses}, low (3,), high (3,), walks).

    low and high bound the room, which is the same for all titles and frames. Where the way is longer than 3.4 m,
    `walks` is False and every pose is kept over the middle of a small room instead: the person walks on the spot.
    """
    placed = {}
    for title, pose in poses.items():
        # Not the very lowest frame: one bad estimate would leave the person in the air in all others.
        floor = np.nanquantile(np.nanmin(pose[..., 2], axis=1), 0.05)
        placed[title] = turned(pose - np.array([0, 0, floor]), azim)
    low, high = _ground(placed)
    walks = (high - low).max() <= WALK
    if not walks:
        placed = {title: pose - pose[:, root:root + 1] * [1, 1, 0] for title, pose in placed.items()}
        low, high = _ground(placed)
    half = np.maximum(high - low + 0.2, SMALLEST) / 2
    top = max(np.nanquantile(np.nanmax(pose[..., 2], axis=1), 0.99) for pose in placed.values())
    middle = (low + high) / 2
    return placed, np.append(middle - half, 0), np.append(middle + half, max(top + 0.05, 1.0)), walks


def _ground(poses):
    """The corners (2,) and (2,) of the ground that all poses cover."""
    ground = np.concatenate([pose[..., :2].reshape(-1, 2) for pose in poses.values()])
    return np.nanmin(ground, axis=0), np.nanmax(ground, axis=0)


def pose_error_mm(pose, truth, root):
    """MPJPE per frame (T,) in mm of poses (T, J, 3) in metres, both relative to their root."""
    difference = (pose - pose[:, root:root + 1]) - (truth - truth[:, root:root + 1])
    return 1000 * np.linalg.norm(difference, axis=-1).mean(axis=-1)


class Stage:
    """The figure with everything still already drawn; `picture` draws one frame over it.

    titles: one 3D panel each; low, high (3,): the room in metres; viewport: (width, height) of the 2D image in pixels;
    azim in degrees; size: side of a panel in inches at 100 dpi.
    """

    def __init__(self, titles, low, high, skeleton, skeleton_2d, viewport, azim, size):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.transforms import Bbox

        self._side = 2 * round(size * DPI / 2)  # even, as H.264 wants it
        self.width, self.height = self._side * (1 + len(titles)), self._side
        self._font = float(np.clip(6 + size, 7, 14))
        self._strip = round(2.4 * self._font)  # height of the titles above and of the legend below
        self._margin = max(4, self._side // 50)
        self._viewport = np.array(viewport)
        self.image_box = self._fit_image()
        self._figure = Figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI, facecolor=PAPER)
        canvas = FigureCanvasAgg(self._figure)
        line, clip = 0.5 * size + 1, Bbox.from_bounds(*self.image_box)
        self._input = (Bones(self._figure, skeleton_2d, line, clip) if skeleton_2d
                       else Points(self._figure, line, clip))
        self._bones = Bones(self._figure, skeleton, line)
        self._label = Label(self._font)
        self._draw_still(titles, low, high, azim)
        canvas.draw()
        self._renderer = canvas.get_renderer()
        self._picture = np.asarray(canvas.buffer_rgba())  # (H, W, 4): the canvas itself, writing to it draws
        self._still = self._picture.copy()

    def _fit_image(self):
        """(x, y, width, height) in whole pixels of the 2D image in the first panel."""
        room = np.array([self._side - 2 * self._margin, self._side - 2 * self._strip])
        width, height = np.maximum(1, (self._viewport * (room / self._viewport).min()).astype(int))
        return (self._side - width) // 2, self._strip + (room[1] - height) // 2, int(width), int(height)

    def _draw_still(self, titles, low, high, azim):
        from matplotlib.lines import Line2D
        from matplotlib.patches import Rectangle
        from matplotlib.transforms import IdentityTransform

        pixels, side, strip, margin = IdentityTransform(), self._side, self._strip, self._margin
        x, y, width, height = self.image_box
        self._figure.add_artist(Rectangle((x, y), width, height, facecolor=WALL, transform=pixels))
        self._rooms = []
        for panel, title in enumerate(["Input", *titles]):
            put_text(self._figure, panel * side + 2 * margin, side - 0.7 * strip, title, self._font, weight="bold")
            if panel:
                box = (panel * side + 4 * margin, strip + 2 * margin, side - 5 * margin, side - 2 * strip - 2 * margin)
                self._rooms.append(Room(low, high, azim, box))
                self._rooms[-1].draw(self._figure, 0.75 * self._font)
        start = 2 * margin
        for name in ("left", "right"):
            self._figure.add_artist(Line2D([start, start + 1.2 * self._font], [strip / 2] * 2, linewidth=3.5,
                                           color=COLOURS[name], solid_capstyle="round", transform=pixels))
            put_text(self._figure, start + 2 * self._font, 0.37 * strip, name, self._font, QUIET)
            start += round(5.5 * self._font)

    def picture(self, keypoints, poses, image=None, notes=(), caption=""):
        """One frame: uint8 RGBA (H, W, 4), overwritten by the next.

        keypoints: (J2, 2) pixels; poses: one (J, 3) per panel in the room; image: RGB (height, width, 3) of the size of
        `image_box`; notes: a short text, or an empty one, per panel; caption: frame and time.
        """
        np.copyto(self._picture, self._still)
        x, y, width, height = self.image_box
        if image is not None:
            top = self.height - y - height
            self._picture[top:top + height, x:x + width, :3] = image
        scale = np.array([width, -height]) / self._viewport
        self._input.draw(self._renderer, keypoints * scale + (x, y + height))
        for room, pose in zip(self._rooms, poses, strict=True):
            self._bones.draw_shadow(self._renderer, room.view.project(pose * [1, 1, 0])[0])
            self._bones.draw(self._renderer, *room.view.project(pose))
        title_row, caption_row = round(0.7 * self._strip), self.height - round(0.37 * self._strip)
        for panel, note in enumerate(notes, start=2):
            if note:
                self._label.draw(self._picture, panel * self._side - 2 * self._margin, title_row, note)
        self._label.draw(self._picture, self.width - 2 * self._margin, caption_row, caption)
        return self._picture


def _check_shapes(keypoints_2d, poses, skeleton, skeleton_2d):
    frames, joints = len(keypoints_2d), skeleton.num_joints()
    if not frames or not poses:
        raise DataError("there are no frames, or no 3D poses, to render")
    for title, pose in poses.items():
        if pose.shape != (frames, joints, 3):
            raise DataError(f"{title}: poses of shape {pose.shape} do not fit {frames} frames of {joints} joints")
    if skeleton_2d is not None and skeleton_2d.num_joints() != keypoints_2d.shape[1]:
        raise DataError(f"{keypoints_2d.shape[1]} 2D keypoints do not fit a skeleton of {skeleton_2d.num_joints()}")


def _check_video(path, fps, viewport):
    """The VideoInfo of the input; says what does not match the data."""
    info = probe(path)
    if fps and abs(info.fps - fps) > 0.01 * fps:
        print(f"{path}: {info.fps:g} frames per second, the poses have {fps:g}; frame n is shown with pose n")
    if abs(info.width * viewport[1] / (info.height * viewport[0]) - 1) > 0.02:
        print(f"{path}: {info.width} x {info.height} is not the shape of the data's {viewport[0]} x {viewport[1]}; "
              "it is stretched to fit")
    return info


def _error_notes(poses, root, frames):
    """Per frame, the error text of each panel: empty for the ground truth, and for all where there is none."""
    truth = next((pose for title, pose in poses.items() if title.lower() == GROUND_TRUTH), None)
    columns = [[""] * frames if truth is None or pose is truth else
               [f"MPJPE {error:.0f} mm" for error in pose_error_mm(pose, truth, root)] for pose in poses.values()]
    return list(zip(*columns, strict=True)) or [()] * frames


def _write_all(writer, pictures, total):
    """Write each picture while the next one is drawn; returns their number."""
    written, writing = 0, None
    with ThreadPoolExecutor(1) as second_core, progress(total=total, desc="rendering", unit="frame") as bar:
        for picture in pictures:
            picture = picture.copy()  # the next one is drawn into the same memory
            if writing is not None:
                writing.result()
            writing = second_core.submit(writer.write, picture)
            written += 1
            bar.update()
        if writing is not None:
            writing.result()
    return written


def render_animation(keypoints_2d, poses, skeleton, fps, bitrate, azim, output, viewport, limit=-1, downsample=1,
                     size=5, input_video_path=None, input_video_skip=0, skeleton_2d=None, times=None):
    """Write a video (.mp4 or .gif) of the input beside the 3D poses; returns the number of frames written.

    keypoints_2d: (T, J2, 2) pixels of a `viewport` = (width, height) image, joined by `skeleton_2d` (None: dots);
    poses: {title: (T, J, 3)} in metres, z up, one panel each; the error to "Ground truth", if given, stands beside the
    other titles. fps: of the data (None: the video's); bitrate: kbit/s at most; azim: degrees; size: inches per panel
    at 100 dpi. times: (T,) seconds at which the frames are shown, where they are not evenly spread.

    Frame n of the video belongs to pose n. The first `input_video_skip` of both are left out, then every
    `downsample`-th frame is kept and the frames per second divided by it, then at most `limit` frames are written
    (below 1: all). A video that ends before the poses ends the output. Raises UsageError, DataError, DependencyError.
    """
    check_output(output)
    require("matplotlib", "matplotlib")
    poses = {title: np.asarray(pose) for title, pose in poses.items()}
    _check_shapes(keypoints_2d, poses, skeleton, skeleton_2d)
    if input_video_path:
        info = _check_video(input_video_path, fps, viewport)
        fps = fps or info.fps
    if not fps:
        raise UsageError("the frames per second are not known; give them, or an input video")
    kept = shown_frames(len(keypoints_2d), input_video_skip, downsample, limit)
    shown = {title: pose[kept] for title, pose in poses.items()}
    placed, low, high, walks = place_on_floor(shown, skeleton.root(), azim)
    if not walks:
        print(f"the way is longer than {WALK:g} m: the person is shown walking on the spot")
    stage = Stage(list(poses), low, high, skeleton, skeleton_2d, viewport, azim, size)
    images = itertools.repeat(None)
    if input_video_path:
        images = read_frames(input_video_path, input_video_skip, len(kept), downsample, *stage.image_box[2:])
    notes = _error_notes(placed, skeleton.root(), len(kept))
    seconds = kept / fps if times is None else times[kept]
    pictures = (stage.picture(keypoints_2d[frame], now, image, note, f"frame {frame}   {second:.2f} s")
                for frame, second, image, note, *now in zip(kept, seconds, images, notes, *placed.values(),
                                                            strict=False))
    with open_writer(output, fps / downsample, stage.width, stage.height, bitrate,
                     None if times is None else seconds) as writer:
        written = _write_all(writer, pictures, len(kept))
        if not written:
            raise DataError(f"{input_video_path}: ends before frame {input_video_skip}; skip fewer frames")
    if written < len(kept):
        print(f"{input_video_path}: ends after {written} of {len(kept)} frames, and so does {output}")
    return written
