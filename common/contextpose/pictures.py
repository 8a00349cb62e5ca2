"""ContextPose in pictures: a pose over its image and in a room, and what a network in training sees.

    picture = pose_picture(image, joints_2d, joints_3d, box=(left, top, right, bottom))     # (H, W, 3) uint8
    save_picture("walking_pose.png", picture)

Images and pictures are uint8 RGB; pixel centres of images lie at whole coordinates. Joints are in ContextPose's order.
"""
import math

import numpy as np
import torch

from common.contextpose.volumetric import project
from common.drawing import COLOURS, GHOST, INK, PAPER, QUIET, Sheet
from common.keypoints import CONTEXTPOSE_17, CONTEXTPOSE_17_NAMES
from common.utils import DataError, atomic_path, require
from common.visualization import place_on_floor

FONT, SMALL = 11, 10  # points
LONGEST = 42  # letters of a title
GAP, STRIP = 14, 38  # pixels: between panels; of the lines of text above and below
LARGEST = (680, 560)  # pixels: an image's largest width and height
LOWEST, NARROWEST = 460, 230  # pixels: of the panels
PART = 2.5  # an image longer than so many boxes is shown in part ...
AROUND = 2.2  # ... and then so many boxes of it
AZIM = -62  # degrees: somewhat to the right of a camera that looks along y
MM_PER_METRE = 1000.0  # rooms are drawn in metres

TILE, TITLE = 224, 22  # pixels: side of a crop in a picture of the training, height of its line of text
MAP_TILE, VOLUME_TILE, MAP_GAP = 148, 112, 6
# Joints with pictures of their own.
SHOWN = ("pelvis", "head", "right_wrist", "left_wrist", "right_ankle", "left_ankle")
# From above, from the front and from the side: (axis that is looked along, axis to the right, axis up).
PROJECTIONS = {"top: x, y": (2, 0, 1), "front: x, z": (1, 0, 2), "side: y, z": (0, 1, 2)}
MOST_VOLUMES = 4  # samples in the picture of the volumes
TRUE = dict.fromkeys(COLOURS, "#F0E442")  # on a crop: Okabe and Ito's yellow
PREDICTED = "#56B4E9"  # their sky blue, for marks that are seen on all of magma's colours


def save_picture(path, picture):
    """Write a picture (H, W, 3) as PNG, atomically."""
    cv2 = require("cv2", "opencv-python-headless")
    encoded, content = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    if not encoded:
        raise DataError(f"{path}: could not be encoded as PNG")
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.tobytes())


def shown_part(size, box):
    """(x, y, width, height) in whole pixels of what is shown of an image of `size` (height, width).

    All of it, or, where a box (4,) left, top, right, bottom is small in it, the box and what is around.
    """
    height, width = size
    if box is None:
        return 0, 0, width, height
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    if max(width, height) <= PART * side:
        return 0, 0, width, height
    w, h = (min(math.ceil(AROUND * side), whole) for whole in (width, height))
    x = min(max(round((left + right - w) / 2), 0), width - w)
    y = min(max(round((top + bottom - h) / 2), 0), height - h)
    return x, y, w, h


def resized(image, width, height):
    """The image (h, w, 3) in another size: area means when it shrinks, cubic when it grows."""
    cv2 = require("cv2", "opencv-python-headless")
    shrinks = width < image.shape[1]
    return cv2.resize(np.ascontiguousarray(image), (width, height),
                      interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def pose_picture(image, joints_2d, joints_3d, box=None, title="", truth=None, azim=AZIM):
    """The image with its pose over it, and the pose in a room: a picture about 1200 x 640, whatever the image's size.

    image: (H, W, 3); joints_2d: (17, 2) its pixels; joints_3d, and `truth` where it is known: (17, 3) world mm, z up;
    box: (4,) left, top, right, bottom; title: a short text over the room; azim: degrees from which the room is seen.
    An image in which the box is small is shown in part. Returns (height, width, 3).
    """
    part = shown_part(image.shape[:2], box)
    scale = min(LARGEST[0] / part[2], LARGEST[1] / part[3])
    width, height = (max(1, round(scale * side)) for side in part[2:])
    panel, room_left = max(height, LOWEST), 2 * GAP + max(width, NARROWEST)
    sheet = Sheet(room_left + panel + GAP, panel + 2 * STRIP)
    left, top = GAP, STRIP + (panel - height) // 2
    _draw_image(sheet, (left, top, width, height), image, part, joints_2d, box)
    _draw_room(sheet, (room_left, STRIP, panel, panel), joints_3d, truth, azim)

    shown = "" if part[2:] == image.shape[1::-1] else f"{part[2]} x {part[3]} of "
    sheet.text(left, 26, "Image", FONT, weight="bold")
    sheet.text(left, sheet.height - 13, f"{shown}{image.shape[1]} x {image.shape[0]} px", SMALL, QUIET)
    sheet.text(room_left + GAP, 26, "3D pose", FONT, weight="bold")
    if title:
        title = title if len(title) <= LONGEST else title[:LONGEST - 3] + "..."
        sheet.text(sheet.width - GAP, 26, title, SMALL, QUIET, ha="right")
    entries = {"left": COLOURS["left"], "right": COLOURS["right"]}
    if truth is not None:
        entries["ground truth"] = GHOST["centre"]
    sheet.legend(room_left + GAP, sheet.height - 13, entries, SMALL)
    return sheet.picture()


def _draw_image(sheet, rectangle, image, part, joints, box):
    """Put part (x, y, width, height) of an image into a rectangle of the sheet, and joints and box over it."""
    (left, top, width, height), (x, y, w, h) = rectangle, part
    sheet.image(left, top, resized(image[y:y + h, x:x + w], width, height))
    stretch = np.array([width / w, height / h])

    def on_sheet(pixels):  # the centre of the image's first pixel is at 0, the edge of the sheet's is
        return (np.asarray(pixels, dtype=np.float64) + 0.5 - (x, y)) * stretch + (left, top)

    if box is not None:
        outline = on_sheet(np.array(box)[[[0, 1], [2, 1], [2, 3], [0, 3], [0, 1]]] - 0.5)
        sheet.lines(outline, INK, 2.2, rectangle, alpha=0.3)
        sheet.lines(outline, PAPER, 1.1, rectangle, alpha=0.85)
    drawn = on_sheet(joints)
    sheet.bones(CONTEXTPOSE_17, _bone_width(drawn), drawn, rectangle)


def _bone_width(joints):
    """Points: bones of a person whose joints are at pixels (17, 2) are neither wires nor logs."""
    person = max((np.ptp(axis[np.isfinite(axis)]) for axis in joints.T if np.isfinite(axis).any()), default=0)
    return float(np.clip(person / 110, 2.0, 3.6))


def _draw_room(sheet, rectangle, joints, truth, azim):
    """Draw joints (17, 3) mm, and the true ones, in a room that fills a rectangle of the sheet."""
    poses = np.stack([joints] if truth is None else [joints, truth]).astype(np.float64) / MM_PER_METRE
    placed, low, high, _ = place_on_floor({"": poses}, CONTEXTPOSE_17.root(), azim)  # as frames: on one floor
    x, y, width, height = rectangle
    scale_text = 3 * GAP  # left of the room the heights are written
    room = sheet.room(low, high, azim, (x + scale_text, y, width - scale_text, height), 0.8 * FONT)
    if truth is not None:
        sheet.bones_in_room(room, CONTEXTPOSE_17, 2.6, placed[""][1], colours=GHOST)
    sheet.bones_in_room(room, CONTEXTPOSE_17, 4.0, placed[""][0])


def training_pictures(batch, output, count):
    """What a network sees of at most `count` samples, for TensorBoard: {name: (height, width, 3) uint8}.

    batch: samples.Batch; output: model.ContextPoseOutput. `joints`: the crops of all views with predicted and true
    joints; `heatmaps`: of the backbone in the first view, all joints' over the crop, and those of some; `volumes`:
    the most probable voxels of some joints from three sides, with the predicted and the true joint.
    """
    count = max(1, min(count, len(batch.keypoints)))
    return {"joints": joints_picture(batch, output, count), "heatmaps": heatmaps_picture(batch, output, count),
            "volumes": volumes_picture(batch, output, min(count, MOST_VOLUMES))}


def _numbers(tensor):
    return tensor.detach().float().cpu().numpy()


def _on_crops(joints, batch, count):
    """World joints (B, 17, 3) on the crops of the first samples: (count, V, 17, 2) pixels, NaN behind the camera."""
    pixels, depth = project(joints[:count].detach().float(), batch.projections[:count].float())
    return _numbers(torch.where(depth[..., None] > 0, pixels, torch.nan))


def _fitted(shape, side):
    """(width, height) of a crop of `shape` (height, width) whose longer side is shown with `side` pixels."""
    return tuple(max(1, round(side * n / max(shape))) for n in shape[::-1])


def joints_picture(batch, output, count):
    """The crops of the first `count` samples, one view beside the other, with predicted and true joints over them."""
    crops = batch.images[:count].cpu().numpy()  # (count, V, H, W, 3)
    views, shape = crops.shape[1], crops.shape[2:4]
    width, height = _fitted(shape, TILE)
    stretch = np.array([width / shape[1], height / shape[0]])
    across = max(1, min(count, 5 // views))  # samples in a row
    down = math.ceil(count / across)
    sample_width = views * (width + 2) + GAP
    sheet = Sheet(max(GAP + across * sample_width, 4 * TITLE * FONT // 3), GAP + down * (height + TITLE) + STRIP)
    predicted, true = (_on_crops(joints, batch, count) for joints in (output.keypoints, batch.keypoints))
    errors = _numbers(torch.linalg.vector_norm(output.keypoints[:count] - batch.keypoints[:count], dim=-1).mean(-1))
    for number in range(count):
        x0, y0 = GAP + number % across * sample_width, GAP + number // across * (height + TITLE)
        sheet.text(x0, y0 + 12, f"{number + 1}: MPJPE {errors[number]:.0f} mm", 0.8 * FONT)
        for view in range(views):
            x, y = x0 + view * (width + 2), y0 + TITLE - 4
            sheet.image(x, y, resized(crops[number, view], width, height))
            for joints, style in ((true, {"colours": TRUE, "edge": INK}), (predicted, {})):
                sheet.bones(CONTEXTPOSE_17, 1.8, (joints[number, view] + 0.5) * stretch + (x, y),
                            (x, y, width, height), **style)
    entries = {"left": COLOURS["left"], "right": COLOURS["right"], "ground truth": TRUE["centre"]}
    sheet.legend(GAP, sheet.height - 12, entries, 0.8 * FONT)
    return sheet.picture()


def _coloured(values, width, height):
    """Maps (..., h, w) -> colours (..., height, width, 3) uint8 from the least to the greatest value of each."""
    cv2 = require("cv2", "opencv-python-headless")
    palette = (np.array(require("matplotlib", "matplotlib").colormaps["magma"](np.linspace(0, 1, 256)))[:, :3] * 255)
    values = values - values.min((-2, -1), keepdims=True)
    values = (255 * values / np.maximum(values.max((-2, -1), keepdims=True), 1e-12)).round().astype(np.uint8)
    large = [cv2.resize(one, (width, height), interpolation=cv2.INTER_NEAREST)
             for one in values.reshape(-1, *values.shape[-2:])]
    return palette.round().astype(np.uint8)[np.stack(large).reshape(*values.shape[:-2], height, width)]


def _mark(sheet, places, marker, colour):
    """Crosses or rings at pixels (..., 2) of a sheet, each on a dark one that is a little wider; NaN: none."""
    for tint, width in ((INK, 2.4), (colour, 1.2)):
        sheet.lines(np.reshape(places, (-1, 2)), tint, 0, marker=marker, markersize=9, markerfacecolor="none",
                    markeredgecolor=tint, markeredgewidth=width)


def _inside(places, width, height):
    """Places (..., 2) in a tile, NaN instead of those outside."""
    return np.where(((places >= 0) & (places <= (width, height))).all(-1, keepdims=True), places, np.nan)


def _marks_legend(sheet, left, marks):
    """Says what marks {name: (marker, colour)} are."""
    y = sheet.height - 12
    for name, (marker, colour) in marks.items():
        _mark(sheet, np.array([left + 6, y - 4]), marker, colour)
        sheet.text(left + 18, y, name, SMALL, QUIET)
        left += 120


def _column_names(sheet, first, pitch, width, names):
    """Names over columns of this width; first: where the first column begins and their baseline (x, y)."""
    for column, name in enumerate(names):
        sheet.text(first[0] + column * pitch + width / 2, first[1], name.replace("_", " "), 0.8 * FONT, ha="center")


def heatmaps_picture(batch, output, count):
    """The backbone's heatmaps in the first view: all joints' over the crop, then those of the joints `SHOWN`."""
    crops = batch.images[:count, 0].cpu().numpy()
    shape = crops.shape[1:3]
    width, height = _fitted(shape, MAP_TILE)
    maps = _numbers(output.heatmaps[:count, 0])  # (count, 17, h, w)
    least = maps.min((-2, -1), keepdims=True)
    strength = (maps - least) / np.maximum(maps.max((-2, -1), keepdims=True) - least, 1e-12)
    all_joints = _coloured(strength.max(1) ** 2, width, height)  # squared: hills stand out of what is around
    chosen = [CONTEXTPOSE_17_NAMES.index(name) for name in SHOWN]
    tiles = _coloured(maps[:, chosen], width, height)
    true = (_on_crops(batch.keypoints, batch, count)[:, 0, chosen] + 0.5) * [width / shape[1], height / shape[0]]
    across, down = width + MAP_GAP, height + MAP_GAP
    sheet = Sheet(GAP + (1 + len(SHOWN)) * across + GAP, TITLE + count * down + STRIP)
    _column_names(sheet, (GAP, TITLE - 4), across, width, ("all joints", *SHOWN))
    for row in range(count):
        crop = resized(crops[row], width, height)
        sheet.image(GAP, TITLE + row * down, crop // 2 + all_joints[row] // 2)
        for column, tile in enumerate(tiles[row], start=1):
            sheet.image(GAP + column * across, TITLE + row * down, tile)
    corners = np.stack(np.broadcast_arrays(GAP + across * np.arange(1, 1 + len(SHOWN)),
                                           TITLE + down * np.arange(count)[:, None]), axis=-1)  # (count, SHOWN, 2)
    _mark(sheet, corners + _inside(true, width, height), "o", PAPER)
    _marks_legend(sheet, GAP, {"true joint": ("o", PAPER)})
    return sheet.picture()


def _in_volume(joints, coordinates):
    """World joints (B, J, 3) along the edges of the cuboids of points (B, n, n, n, 3): (B, J, 3), 0 to 1 inside."""
    points, joints = coordinates.detach().double().cpu(), joints.detach().double().cpu()
    corner = points[:, 0, 0, 0]
    edges = torch.stack((points[:, -1, 0, 0], points[:, 0, -1, 0], points[:, 0, 0, -1]), dim=1) - corner[:, None]
    return ((joints - corner[:, None]) @ edges.transpose(1, 2) / edges.square().sum(-1)[:, None]).numpy()


def volumes_picture(batch, output, count):
    """Volumes of the joints `SHOWN`, their maxima along each axis: three rows a sample, along the cuboid's own axes.

    While training the cuboid is turned about z, and its axes with it. Samples stand two in a row.
    """
    chosen = [CONTEXTPOSE_17_NAMES.index(name) for name in SHOWN]
    volumes = output.volumes[:count, chosen].detach().float()
    side, n, pitch = VOLUME_TILE, volumes.shape[-1], VOLUME_TILE + MAP_GAP
    places = {marker: _in_volume(joints[:count, chosen], output.coordinates[:count])
              for marker, joints in (("o", batch.keypoints), ("+", output.keypoints))}
    left, block = 6 * GAP, (6 * GAP + len(SHOWN) * pitch + GAP, len(PROJECTIONS) * pitch + TITLE)
    across = min(count, 2)
    sheet = Sheet(across * block[0], math.ceil(count / across) * block[1] + STRIP)
    marks = {"o": [], "+": []}
    for number in range(count):
        x0, y0 = number % across * block[0], number // across * block[1]
        sheet.text(x0 + GAP / 2, y0 + TITLE - 4, f"sample {number + 1}", 0.8 * FONT, weight="bold")
        _column_names(sheet, (x0 + left, y0 + TITLE - 4), pitch, side, SHOWN)
        for row, (name, (along, right, up)) in enumerate(PROJECTIONS.items()):
            y = y0 + TITLE + row * pitch
            sheet.text(x0 + GAP / 2, y + side / 2, name, 0.8 * FONT, QUIET)
            # (right, up) -> rows from the highest down.
            maps = volumes[number].amax(1 + along).cpu().numpy().swapaxes(-1, -2)[..., ::-1, :]
            for column, tile in enumerate(_coloured(maps, side, side)):
                sheet.image(x0 + left + column * pitch, y, tile)
            corners = np.stack([x0 + left + pitch * np.arange(len(SHOWN)), np.full(len(SHOWN), y)], axis=-1)
            for marker, place in places.items():
                a, b = ((place[number, :, axis] * (n - 1) + 0.5) * side / n for axis in (right, up))
                marks[marker].append(corners + _inside(np.stack([a, side - b], axis=-1), side, side))
    for marker, colour in (("o", PAPER), ("+", PREDICTED)):
        _mark(sheet, marks[marker], marker, colour)
    _marks_legend(sheet, left, {"true joint": ("o", PAPER), "predicted joint": ("+", PREDICTED)})
    return sheet.picture()
