"""Poses of people on images of one's own: what is asked of the user, what is assumed instead, and the files written.

An image is one view, by a camera with intrinsics K in pixels of the image as it is shown (turned as its EXIF data say)
and without distortion. Nothing is known of where the camera stands: it is taken as level, and the world as

    x: right, the camera's x      y: ahead, the camera's z      z: up, against the camera's y; 0 at the camera

z up is what the network was trained with; it computes in mm, the files are in metres. Boxes of users are left, top,
right, bottom in pixels, the last two the first column and row outside; inside the suite they are tlbr, as in
common/h36m_images.py.
"""
import collections
import json
import math
from pathlib import Path

import numpy as np
import torch

from common.contextpose.image import LEVEL_CAMERA, crop_view, read_image
from common.contextpose.pictures import pose_picture, save_picture
from common.contextpose.samples import Sample, collate
from common.export import Prediction, write_prediction
from common.keypoints import CONTEXTPOSE_17
from common.utils import CheckpointError, DataError, UsageError, progress

SUFFIXES = (".jpg", ".jpeg", ".png")
BATCH = 8
# How far a person reaches in an image, along the longer side of the box, at the depth of the pelvis. The demo people
# (1.58 to 1.90 m tall, 8 actions, boxes of their masks) have a median of 1657 mm, 5 to 95 %: 1390 to 2005 mm; those who
# walk and wave in `prepare_data_demo.py --raw h36m` 1540 to 1795 mm. Sitting and lying people can be below 1200 mm.
PERSON_MM = 1650.0
BEYOND = 1e9  # pixels: no image is so large
LARGEST_BOX = 2  # times the longer side of the image
WORLD_AXES = "x right, y ahead, z up from a camera taken as level, 0 at the camera"
FPS = 25  # where nothing is said: video is what rows of images mostly come from
FILES = "predictions.npz", "predictions.json"


def parse_intrinsics(text):
    """`fx,fy,cx,cy` in pixels -> K (3, 3) float64; UsageError for anything else."""
    numbers = _numbers(text)
    if numbers is None:
        raise UsageError(f"--intrinsics {text!r}: four numbers are wanted, fx,fy,cx,cy in pixels")
    fx, fy, cx, cy = numbers
    if min(fx, fy) <= 0:
        raise UsageError(f"--intrinsics {text!r}: the focal lengths fx and fy must be more than 0")
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def _numbers(text):
    """Four finite numbers from a text with commas, or None."""
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        return None
    return numbers if len(numbers) == 4 and np.isfinite(numbers).all() else None


def find_images(arguments):
    """The paths of the images that the user names; of a folder those of its .jpg, .jpeg and .png files, sorted.

    Raises DataError where there is no such file, or no image in a folder.
    """
    paths = []
    for path in map(Path, arguments):
        if not path.exists():
            raise DataError(f"{path}: no such image; check the name")
        if not path.is_dir():
            paths.append(path)
            continue
        inside = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES and entry.is_file())
        if not inside:
            raise DataError(f"{path}: a folder without images ({', '.join(SUFFIXES)}); name others")
        paths += inside
    return paths


def image_sizes(paths):
    """Sizes [(height, width)] of images. Reads them whole, so that a damaged one (DataError) is found before any work.
    """
    return [read_image(path).shape[:2] for path in progress(paths, desc="checking", unit="image")]


def read_boxes(argument, image_paths, sizes):
    """Square boxes (n, 4) int64 tlbr, around the people in images of these sizes [(height, width)].

    argument: None or empty (the whole images); texts `left,top,right,bottom`, one per image or one for all; or one
    path of a JSON file: {image path or name: [left, top, right, bottom]}, or a list of these four in the images' order.
    As in training, the longer side is the side of the square and the centre stays. Raises UsageError for texts and
    DataError for files and for boxes that do not fit their image.
    """
    count = len(image_paths)
    if not argument:
        return np.stack([square_box((0, 0, width, height)) for height, width in sizes])
    argument = [argument] if isinstance(argument, (str, Path)) else list(argument)
    if len(argument) == 1 and str(argument[0]).lower().endswith(".json"):
        boxes, error = _boxes_of_file(Path(argument[0]), [Path(path) for path in image_paths]), DataError
    else:
        boxes, error = [_numbers(text) for text in argument], UsageError
        if None in boxes:
            raise UsageError(f"--boxes: {argument[boxes.index(None)]!r} is no box; give four numbers "
                             "left,top,right,bottom in pixels, or one .json file")
        if len(boxes) not in (1, count):
            raise UsageError(f"--boxes: {len(boxes)} boxes for {count} images; give one per image, or one for all")
        boxes = boxes * count if len(boxes) == 1 else boxes
    for box, path, size in zip(boxes, image_paths, sizes, strict=True):
        wrong = _what_is_wrong(box, size)
        if wrong:
            shown = ",".join(f"{value:g}" for value in box)
            raise error(f"{path}: the box {shown} {wrong}; boxes are left,top,right,bottom in pixels")
    return np.stack([square_box(box) for box in boxes])


def _boxes_of_file(path, image_paths):
    """Boxes [[left, top, right, bottom]] of the images, from a JSON file."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: could not be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON ({error}); write {{image name: [left, top, right, bottom]}}") from None
    if isinstance(content, dict):
        missing = [image for image in image_paths if str(image) not in content and image.name not in content]
        if missing:
            raise DataError(f"{path}: no box for {missing[0].name}, one of {len(missing)} images that it does not "
                            "name; write {image name: [left, top, right, bottom]}")
        content = [content.get(str(image), content.get(image.name)) for image in image_paths]
    elif not isinstance(content, list) or len(content) != len(image_paths):
        held = f"{len(content)} boxes" if isinstance(content, list) else type(content).__name__
        raise DataError(f"{path}: holds {held} for {len(image_paths)} images; write {{image name: [left, top, right, "
                        "bottom]}")
    for image, box in zip(image_paths, content, strict=True):
        numbers = isinstance(box, list) and all(type(value) in (int, float) and abs(value) < BEYOND for value in box)
        if not numbers or len(box) != 4:
            raise DataError(f"{path}: {json.dumps(box)[:60]} is no box of {image.name}; write four numbers [left, top, "
                            "right, bottom]")
    return content


def _what_is_wrong(box, size):
    """What makes a box left, top, right, bottom unfit for an image of `size` (height, width), or an empty text."""
    (left, top, right, bottom), (height, width) = box, size
    if right - left < 1 or bottom - top < 1:
        return "is empty, or the order of its numbers is another"
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return f"lies outside of the image, {width} x {height}"
    if max(right - left, bottom - top) > LARGEST_BOX * max(size):
        return f"is more than {LARGEST_BOX} times as long as the image, {width} x {height}"
    return ""


def square_box(box):
    """left, top, right, bottom -> a square tlbr (4,) int64 with the longer side and, to half a pixel, the centre."""
    left, top, right, bottom = box
    side = max(round(right - left), round(bottom - top), 1)
    top, left = (math.floor((a + b - side) / 2) for a, b in ((top, bottom), (left, right)))
    return np.array([top, left, top + side, left + side])


def pelvis_from_box(box, K, side_mm=PERSON_MM, depth=None):
    """Where the pelvis of the person in a square box (4,) tlbr is: (3,) mm in the space of a camera with K (3, 3).

    It is seen in the centre of the box; its depth is `depth`, or that at which `side_mm` are as long as the box.
    """
    top, left, bottom, right = np.asarray(box, dtype=np.float64)
    focal = math.sqrt(K[0, 0] * K[1, 1])
    if depth is None:
        depth = focal * side_mm / (bottom - top)
    centre = np.array([(left + right - 1) / 2, (top + bottom - 1) / 2, 1.0])  # pixel centres are at whole coordinates
    return depth * np.linalg.solve(K, centre)


def output_names(paths):
    """A name per image for its files: its stem, and with a number where an image before it has the same one."""
    names, taken = [], collections.Counter()
    for path in paths:
        name, number = path.stem, 1
        while taken[name.casefold()]:  # some file systems do not tell a.jpg from A.jpg
            number += 1
            name = f"{path.stem}_{number}"
        taken[name.casefold()] += 1
        names.append(name)
    return names


def predict_images(model, paths, K, boxes, pelvis_depth, device, output, image_shape, source, fps=None):
    """Predict the pose of the person in each image, write the files, and return lines that say what was done.

    model: a module, on `device`, that is called with images (B, 1, 3, h, w), projections (B, 1, 3, 4) and pelvis (B,
    3) and gives something with .keypoints (B, 17, 3) world mm; paths: n; K (3, 3); boxes (n, 4) square tlbr, of
    `read_boxes`; pelvis_depth: mm, or None to take it from the boxes; image_shape: (height, width) of the crops;
    source: of `common.source.make_source`; fps: images a second, or None where nobody says.
    Written to the folder `output`: the files `FILES` of the `Prediction` whose frames are the images (see
    `as_prediction`), and a picture per image. Raises DataError where an image cannot be read, CheckpointError where
    the network's joints are not finite.
    """
    paths, output = [Path(path) for path in paths], Path(output)
    pictures = [f"{name}_pose.png" for name in output_names(paths)]
    pelves = np.stack([pelvis_from_box(box, K, depth=pelvis_depth) for box in boxes])
    world, sizes = [], []
    model.eval()
    with progress(total=len(paths), desc="predicting", unit="image") as bar:
        for start in range(0, len(paths), BATCH):
            rows = slice(start, start + BATCH)
            images = [read_image(path) for path in paths[rows]]
            joints = _joints(model, images, K, boxes[rows], pelves[rows], device, image_shape)
            if not np.isfinite(joints).all():
                raise CheckpointError(f"the network's joints are not finite for the images from {paths[start]} on; its "
                                      "weights are damaged, take others")
            for image, picture, keypoints, pose, box, pelvis in zip(
                    images, pictures[rows], _pixels(joints, K), joints, as_given(boxes[rows]), pelves[rows],
                    strict=True):
                save_picture(output / picture,
                             pose_picture(image, keypoints, pose, box, f"pelvis {pelvis[2] / 1000:.1f} m ahead"))
                bar.update()
            world.append(joints)
            sizes += [image.shape[:2] for image in images]
    prediction = as_prediction(np.concatenate(world), K, sizes, source, fps or FPS, {
        "images": list(map(str, paths)), "pictures": pictures, "boxes": as_given(boxes),
        "pelvis_depth_m": pelves[:, 2] / 1000, "pelvis_depth_from": "box" if pelvis_depth is None else
        "--pelvis-depth"})
    for name in FILES:
        write_prediction(output / name, prediction)
    return _report(prediction, sizes, output, fps)


def _joints(model, images, K, boxes, pelves, device, image_shape):
    """The network's joints (n, 17, 3), float32 world mm, for images with boxes (n, 4) tlbr and pelves (n, 3)."""
    samples = []
    for row, (image, box, pelvis) in enumerate(zip(images, boxes, pelves, strict=True)):
        crop, cropped_K = crop_view(image, K, box, image_shape)
        projection = np.pad(cropped_K @ LEVEL_CAMERA, ((0, 0), (0, 1)))  # the camera is at the world's origin
        samples.append(Sample(crop[None], projection[None].astype(np.float32), np.zeros((17, 3), np.float32),
                              (LEVEL_CAMERA.T @ pelvis).astype(np.float32), (row, (0,))))
    with torch.inference_mode():
        return model(*collate(samples).to(device).inputs()).keypoints.float().cpu().numpy()


def as_given(boxes):
    """Boxes (n, 4) tlbr as users give them: left, top, right, bottom."""
    return np.asarray(boxes)[:, [1, 0, 3, 2]]


def _pixels(world, K):
    """World joints (n, 17, 3) in the images: (n, 17, 2) pixels, NaN behind the camera."""
    homogeneous = np.asarray(world, dtype=np.float64) @ LEVEL_CAMERA.T @ K.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(homogeneous[..., 2:] > 0, homogeneous[..., :2] / homogeneous[..., 2:], np.nan)


def as_prediction(world, K, sizes, source, fps, extra):
    """The `Prediction` whose frames are n images of `sizes` [(height, width)]; world: joints (n, 17, 3) mm.

    What is known of them beside: `extra`, with a row per image and boxes as users give them, and intrinsics K (3, 3).
    """
    joints = np.asarray(world, dtype=np.float64) / 1000
    size = sizes[0][::-1] if len(set(sizes)) == 1 else None
    return Prediction(joints, CONTEXTPOSE_17, fps, "world", "predicted", source,
                      joints_camera=joints @ LEVEL_CAMERA.T, keypoints_2d=_pixels(world, K),
                      skeleton_2d=CONTEXTPOSE_17, size=size, extra=extra | {"intrinsics": K, "axes_world": WORLD_AXES})


def _report(prediction, sizes, output, fps):
    """Lines on what was assumed of images of these sizes [(height, width)], and what was written."""
    found = prediction.extra
    depths, count = found["pelvis_depth_m"], len(sizes)
    span = f"{depths.min():.2f} m" if np.ptp(depths) < 0.005 else f"{depths.min():.2f} to {depths.max():.2f} m"
    source = "as given by --pelvis-depth"
    if found["pelvis_depth_from"] == "box":
        source = (f"of somebody who reaches over {PERSON_MM:.0f} mm along the box; give --pelvis-depth where it is "
                  "known, and for people who sit or lie")
    lines = [f"depth of the pelvis: {span}, {source}",
             f"world: {WORLD_AXES}; people lean as much as it looks up or down"]
    whole = [list(square_box((0, 0, width, height))[[1, 0, 3, 2]]) for height, width in sizes]
    taken_whole = sum(list(box) == square for box, square in zip(found["boxes"], whole, strict=True))
    if taken_whole:
        lines.append(f"{taken_whole} of {count} images taken whole: the person should fill the longer side; --boxes "
                     "says where people are")
    if len(set(sizes)) > 1:
        lines.append("the images differ in size, but --intrinsics is taken for all of them")
    (_, _, cx), (_, _, cy), _ = found["intrinsics"]
    if any(not (0 <= cx < width and 0 <= cy < height) for height, width in sizes):
        lines.append(f"the centre of projection ({cx:g}, {cy:g}) lies outside of an image; --intrinsics is in pixels "
                     "of the images as they are now")
    if fps is None and count > 1:
        lines.append(f"{FPS} images a second are taken; --fps says how many")
    return [*lines, f"{output}: predictions.npz, predictions.json and {count} picture{'s' * (count > 1)} *_pose.png"]
