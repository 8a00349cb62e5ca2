"""Human3.6M's images, stage by stage: which frames, the person's boxes, and pictures without distortion.

Boxes are tlbr: top, left, bottom, right in whole pixels; bottom and right are the first row and column outside. A box
of zeros says that a view is missing. Pixel centres lie at whole coordinates.
"""
import functools
import os
from pathlib import Path

import numpy as np

from common import prepared
from common.camera import project_to_2d
from common.folders import atomic_folder
from common.h36m_raw import AGAIN, BROKEN_VIEWS, CAMERAS, TEST_SUBJECTS, find_file, pixel_camera, read_positions
from common.keypoints import CONTEXTPOSE_17_FROM_H36M_32
from common.prepared import state_of
from common.utils import DataError, require
from common.video import read_chosen_frames

RECIPE = 1  # raised when the same sources come to give other files
TEST_STEP = 64  # frames from one kept frame of a test subject to the next
MOVED_MM = 40.0  # by which a joint of a training subject moved since the last kept frame
SIZE_SPREAD = 2  # rows by which videos of one camera differ: some have 1000, some 1002
JPEG_QUALITY = 95
IMAGES, UNDISTORTED = "imageSequence", "imageSequence-undistorted"
ANNOTATION = "annotation.npz"


def select_frames(subject, poses):
    """Numbers (n,) of the frames to keep: every 64th of S9 and S11, else those in which a joint moved enough.

    poses: (frames, J, 3) millimetres of all joints. The first frame is always kept; of others every one in which some
    joint is 40 mm or more from where it was in the last frame kept.
    """
    if subject in TEST_SUBJECTS:
        return np.arange(0, len(poses), TEST_STEP)
    kept = [0]
    for number in range(1, len(poses)):
        moved = poses[number].astype(np.float64) - poses[kept[-1]]
        if (moved**2).sum(-1).max() >= MOVED_MM**2:
            kept.append(number)
    return np.array(kept)


def box_of_mask(mask):
    """The square box (4,) tlbr int16 around a person's mask (H, W), nonzero where the person is; zeros if nowhere.

    The longer side of the mask's extent is the side; the centre stays, to half a pixel. It may reach outside.
    """
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros(4, dtype=np.int16)
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    side = max(bottom - top, right - left)
    top, left = (top + bottom - side) // 2, (left + right - side) // 2
    return np.array([top, left, top + side, left + side], dtype=np.int16)


def fits(size, usual):
    """Whether pictures of this (width, height) are those of a camera whose pictures usually have the other."""
    return max(abs(a - b) for a, b in zip(size, usual, strict=True)) <= SIZE_SPREAD


def read_boxes(path, frames, size):
    """Square boxes (n, 4) int16 of the frames with these numbers, from a mask file (MATLAB 7.3, which is HDF5).

    `Masks` holds a reference per frame to a mask that HDF5 shows transposed, (W, H); size: the camera's (width,
    height). DataError names the file where it is damaged, too short or of another size.
    """
    h5py, boxes = require("h5py", "h5py"), []
    try:
        with h5py.File(path, "r") as file:
            if "Masks" not in file:
                raise DataError(f"{path}: has no variable Masks; {AGAIN}")
            references = file["Masks"][()].ravel()
            for frame in frames:
                if frame >= len(references):
                    raise DataError(f"{path}: ends after {len(references)} masks, that of frame {frame} (the first is "
                                    f"0) is missing; {AGAIN}")
                mask = file[references[frame]]
                if len(mask.shape) != 2 or not fits(mask.shape, size):
                    raise DataError(f"{path}: the mask of frame {frame} has the shape {mask.shape}, not {size} as the "
                                    f"pictures; {AGAIN}")
                boxes.append(box_of_mask(mask[()].T))
    except DataError:
        raise
    except Exception as error:  # a damaged file raises about anything
        raise DataError(f"{path}: damaged or truncated ({type(error).__name__}: {error}); {AGAIN}") from None
    return np.array(boxes)


def undistortion_map(camera, size=None):
    """Where a pixel of the undistorted image is in the distorted one: (H, W, 2) float32, x and y.

    camera: a `pixel_camera`; the undistorted image has its K, and its size unless (width, height) is given. Radial and
    tangential distortion are those of `common.camera.project_to_2d`.
    """
    (width, height), K = size or camera["size"], camera["K"]
    x, y = (np.arange(width) - K[0, 2]) / K[0, 0], (np.arange(height) - K[1, 2]) / K[1, 1]
    rays = np.stack([*np.broadcast_arrays(x, y[:, None]), np.ones((height, width))], axis=-1)
    return project_to_2d(rays, camera["intrinsic"]).astype(np.float32)


@functools.lru_cache(maxsize=2 * len(CAMERAS))
def _map_of(camera, width, height):
    return undistortion_map(pixel_camera(camera), (width, height))


def undistort(image, mapping):
    """The image (H, W, C) uint8 as a pinhole camera sees it: bicubic, zeros outside; `mapping`: `undistortion_map`."""
    cv2 = require("cv2", "opencv-python-headless")
    return cv2.remap(image, mapping, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def scale_box(box, scale):
    """Boxes (..., 4) tlbr scaled about their centres: (..., 4) int64."""
    box = np.asarray(box, dtype=np.float64)
    centre, half = (box[..., :2] + box[..., 2:]) / 2, scale * (box[..., 2:] - box[..., :2]) / 2
    return np.round(np.concatenate([centre - half, centre + half], axis=-1)).astype(np.int64)


def crop_and_resize(image, box, size):
    """What a box (4,) tlbr shows of an image (H, W, C), resized with area interpolation to `size` (height, width).

    Outside the image it shows zeros. ValueError for an empty box.
    """
    cv2 = require("cv2", "opencv-python-headless")
    top, left, bottom, right = map(int, box)
    if bottom <= top or right <= left:
        raise ValueError(f"the box {[top, left, bottom, right]} is empty")
    crop = np.zeros((bottom - top, right - left, *image.shape[2:]), dtype=image.dtype)
    rows, columns = slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))
    inside = image[rows, columns]
    down, across = max(-top, 0), max(-left, 0)
    crop[down:down + inside.shape[0], across:across + inside.shape[1]] = inside
    return cv2.resize(crop, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def image_path(root, subject, sequence, camera, frame, undistorted=True):
    """The picture of a frame (the first is 0; files count from 1) below the folder of the prepared images."""
    kind = UNDISTORTED if undistorted else IMAGES
    return Path(root, subject, sequence, kind, camera, f"img_{frame + 1:06d}.jpg")


def write_jpeg(path, rgb):
    """Write an image (H, W, 3) uint8 RGB as a JPEG file; DataError where it cannot be encoded."""
    cv2 = require("cv2", "opencv-python-headless")
    encoded, content = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not encoded:
        raise DataError(f"{path}: could not be encoded")
    path.write_bytes(content.tobytes())


def write_images(video, frames, folder, camera):
    """Write the frames with these numbers, as filmed and undistorted, below the folder of a sequence.

    DataError where the video is damaged, too short or of another size than the camera's.
    """
    usual, folders = pixel_camera(camera)["size"], [folder / kind / camera for kind in (IMAGES, UNDISTORTED)]
    for path in folders:
        path.mkdir(parents=True)
    for number, image in read_chosen_frames(video, frames):
        size = image.shape[1::-1]
        if not fits(size, usual):
            raise DataError(f"{video}: its frames are {size[0]} x {size[1]}, not {usual[0]} x {usual[1]} as those of "
                            f"camera {camera}; {AGAIN}")
        name = f"img_{number + 1:06d}.jpg"
        write_jpeg(folders[0] / name, image)
        write_jpeg(folders[1] / name, undistort(image, _map_of(camera, *size)))


def find_sources(extracted, subject, sequence):
    """{(kind, camera or ""): path or None} of what a sequence is made of, from the folder of the extracted archives.

    `extracted` holds a folder per archive, named as the archive is without its suffix.
    """
    def find(kind, ending):
        return find_file(extracted / f"{kind}_{subject}", kind, subject, sequence, ending)

    sources = {("Poses_D3_Positions", ""): find("Poses_D3_Positions", ".cdf")}
    for camera in CAMERAS:
        if (subject, sequence, camera) not in BROKEN_VIEWS:
            sources["Videos", camera] = find("Videos", f".{camera}.mp4")
            sources["Segments_mat_gt_bb", camera] = find("Segments_mat_gt_bb", f".{camera}.mat")
    return sources


def settings_of(sources):
    """What the files of a sequence depend on; they keep it, so that a second run knows them again."""
    return {"recipe": RECIPE, "sources": {f"{kind} {camera}".strip(): state_of(path)
                                          for (kind, camera), path in sources.items()}}


def read_annotation(path):
    """{"frames" (n,), "keypoints" (n, 17, 3), "boxes" (n, 4, 4)} of a prepared sequence; see `prepare_sequence`.

    DataError names the file where it is damaged.
    """
    try:
        with np.load(path) as content:
            found = {name: content[name] for name in ("frames", "keypoints", "boxes")}
        shapes, n = [values.shape for values in found.values()], len(found["frames"])
        if shapes != [(n,), (n, 17, 3), (n, len(CAMERAS), 4)]:
            raise ValueError(f"shapes {shapes}")
        return found
    except Exception as error:  # a damaged file raises about anything
        raise DataError(f"{path}: damaged ({type(error).__name__}: {error}); prepare it again") from None


def sequence_is_made(folder, sources):
    """Whether the folder of a sequence is there, with all its pictures, and up to date with its sources."""
    try:
        if not prepared.is_made(folder / ANNOTATION, settings_of(sources), renewing=("recipe", "sources")):
            return False
        frames = read_annotation(folder / ANNOTATION)["frames"]
    except DataError:  # not one of ours, or damaged since: made anew
        return False
    names = {f"img_{frame + 1:06d}.jpg" for frame in frames.tolist()}
    folders = [folder / kind / camera for archive, camera in sources if archive == "Videos"
               for kind in (IMAGES, UNDISTORTED)]
    return all(path.is_dir() and names.issubset(os.listdir(path)) for path in folders)


def prepare_sequence(extracted, images, subject, sequence):
    """Make the images and the annotation of one sequence, unless they are there; True if something was made.

    extracted, images: folders of the archives and of what is prepared. The folder of the sequence appears whole, with
    `annotation.npz`: frames (n,), keypoints (n, 17, 3) float32 world millimetres in ContextPose's order, boxes (n, 4,
    4) int16 per camera. DataError says what is missing or damaged.
    """
    sources, folder = find_sources(extracted, subject, sequence), images / subject / sequence
    missing = [f"{kind} {camera}".strip() for (kind, camera), path in sources.items() if path is None]
    if missing:
        raise DataError(f"no file of {', '.join(missing)} in the archives; get them again")
    if sequence_is_made(folder, sources):
        return False
    settings = settings_of(sources)
    poses = read_positions(sources["Poses_D3_Positions", ""])
    frames = select_frames(subject, poses)
    boxes = np.zeros((len(frames), len(CAMERAS), 4), dtype=np.int16)
    with atomic_folder(folder) as temporary:
        for number, camera in enumerate(CAMERAS):
            if ("Videos", camera) in sources:
                size = pixel_camera(camera)["size"]
                boxes[:, number] = read_boxes(sources["Segments_mat_gt_bb", camera], frames, size)
                write_images(sources["Videos", camera], frames, temporary, camera)
        prepared.write(temporary / ANNOTATION, settings, quiet=True, frames=frames.astype(np.int16),
                       keypoints=poses[frames][:, CONTEXTPOSE_17_FROM_H36M_32], boxes=boxes)
    return True
