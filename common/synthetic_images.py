"""Pictures of the demo people: shaded capsules in a textured room, seen by Human3.6M's distorting cameras or by others.

Every pixel's ray is found by undoing the camera's distortion, and met with the room and with the capsules near it.
Lengths in metres here; poses come in millimetres, as Human3.6M's. Pixel centres lie at whole coordinates.
"""
import functools

import numpy as np

from common.camera import project_to_2d
from common.h36m_raw import CAMERAS, pixel_camera, to_camera
from common.synthetic_body import JOINT, SUBJECT_HEIGHTS, stream

# What is between two joints: (joint, joint, radius in metres of somebody 1.75 m tall, what it wears).
BODY = (
    ("hip", "right_hip", 0.115, "trousers"), ("hip", "left_hip", 0.115, "trousers"), ("hip", "spine", 0.125, "shirt"),
    ("spine", "thorax", 0.135, "shirt"), ("thorax", "neck", 0.055, "skin"), ("neck", "head", 0.095, "skin"),
    *((f"{side}_{a}", f"{side}_{b}", radius, wear) for side in ("left", "right") for a, b, radius, wear in (
        ("hip", "knee", 0.08, "trousers"), ("knee", "ankle", 0.055, "trousers"), ("ankle", "foot", 0.045, "shoes"),
        ("foot", "toe", 0.035, "shoes"), ("shoulder", "elbow", 0.05, "shirt"), ("elbow", "wrist", 0.04, "skin"),
        ("wrist", "hand", 0.038, "skin"))),
    ("thorax", "left_shoulder", 0.075, "shirt"), ("thorax", "right_shoulder", 0.075, "shirt"),
)
USUAL_HEIGHT = 1.75
WEAR = {"trousers": (60, 70, 110), "shirt": (170, 70, 60), "skin": (205, 155, 125), "shoes": (45, 40, 40)}  # RGB
WEAR_SPREAD = {"trousers": 40, "shirt": 70, "skin": 25, "shoes": 20}  # by which a subject's colours differ from those
STRIPES = 0.08  # metres from one dark ring of clothing to the next
LIGHT = np.array([0.35, 0.25, 0.9])  # world direction to the light
AMBIENT = 0.4
LEFT = 1.3  # by which the left side is brighter: a picture tells left from right
ROOM = 8.0  # metres from the middle of the room to its walls
TILE = 0.5  # metres
MARGIN = 3.0  # pixels around a capsule that are looked at, too


@functools.lru_cache(maxsize=len(CAMERAS))
def pixel_rays(camera):
    """The rays of all pixels of a camera (its id): (H, W, 2) float32, x and y at depth 1, to 0.001 px."""
    known = pixel_camera(camera)
    (width, height), K = known["size"], known["K"]
    focal, centre = np.float32([K[0, 0], K[1, 1]]), np.float32([K[0, 2], K[1, 2]])
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    intrinsic = known["intrinsic"].astype(np.float32)
    rays = np.ones((height, width, 3), dtype=np.float32)
    rays[..., :2] = (pixels - centre) / focal
    for _ in range(5):  # each step leaves about a tenth of the error
        rays[..., :2] += (pixels - project_to_2d(rays, intrinsic)) / focal
    return np.ascontiguousarray(rays[..., :2])


def _grain(seed, u, v):
    """A pattern of many scales over surface coordinates in metres: about -1 to 1, of the shape of u and v."""
    rng, value = stream(seed, "grain"), np.zeros(np.broadcast(u, v).shape, dtype=np.float32)
    for wavelength in (3.1, 1.3, 0.6, 0.27, 0.13):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        a, b = np.float32(2 * np.pi / wavelength * np.array([np.cos(angle), np.sin(angle)]))
        value += np.sin(a * u + b * v + np.float32(phase) + np.sin(b * u - a * v))
    return value / 4


@functools.lru_cache(maxsize=len(CAMERAS))
def render_background(subject, camera, seed=0):
    """The empty room as a camera (its id) sees it in a subject's recordings: (H, W, 3) uint8 RGB, to be copied."""
    known = pixel_camera(camera, subject)
    image = draw_room(known["R"], -known["R"].T @ known["t"][:, 0] / 1000, pixel_rays(camera), seed)
    image.flags.writeable = False  # kept for the next call
    return image


def draw_room(rotation, centre, rays, seed=0):
    """The empty room as any camera sees it: (H, W, 3) uint8 RGB.

    rotation: (3, 3), from world to camera; centre: (3,) of the camera in world metres; rays: as of `pixel_rays`.
    """
    rotation, centre = np.float32(rotation), np.float32(centre)
    direction = rays @ rotation[:2] + rotation[2]  # world, (H, W, 3)
    with np.errstate(divide="ignore"):
        ahead = np.abs(direction[..., :2])
        walls = (ROOM - np.sign(direction[..., :2]) * centre[:2]) / ahead  # (H, W, 2): along x and along y
        floor = np.where(direction[..., 2] < 0, centre[2] / -direction[..., 2], np.inf)
    distance = np.minimum(floor, walls.min(-1))
    points, on_floor = centre + distance[..., None] * direction, floor <= distance
    image = np.empty(points.shape, dtype=np.uint8)
    x, y, _ = points[on_floor].T
    tiles = (np.floor(x / TILE) + np.floor(y / TILE)) % 2
    colour = np.float32([118, 104, 88]) + (22 * tiles + 14 * _grain(seed, x, y))[:, None]
    image[on_floor] = colour.clip(0, 255)
    x, y, z = points[~on_floor].T
    along = np.where(walls[~on_floor, 0] < walls[~on_floor, 1], y, x)
    panels = np.floor(along) % 3
    colour = np.float32([122, 132, 140]) + (11 * panels - 6 * z + 12 * _grain(seed + 1, along, z))[:, None]
    image[~on_floor] = colour.clip(0, 255)
    return image


def _meet(rays, a, b, radius):
    """Where rays (N, 2) from the camera meet a capsule from a to b (camera space, metres).

    Returns depth (N,), infinite where they miss it, and the share (N,) of the way from a to b.
    """
    x, y = rays.T
    axis = b - a
    square, along_ray = x * x + y * y + 1, axis[0] * x + axis[1] * y + axis[2]
    length, start = axis @ axis, -(axis @ a)
    towards = -(a[0] * x + a[1] * y + a[2])
    p = length * square - along_ray**2
    q = length * towards - start * along_ray
    root = q**2 - p * (length * (a @ a) - start**2 - radius**2 * length)
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = (-q - np.sqrt(root)) / p
        share = (start + depth * along_ray) / length
    result = np.where((share > 0) & (share < 1), depth, np.inf)  # not a number: missed
    for place, end in ((0.0, a), (1.0, b)):  # the balls at both ends
        towards = -(end[0] * x + end[1] * y + end[2])
        root = towards**2 - square * (end @ end - radius**2)
        with np.errstate(invalid="ignore"):
            depth = (-towards - np.sqrt(root)) / square
        nearer = depth < result
        result, share = np.where(nearer, depth, result), np.where(nearer, place, share)
    return result, share


def _window(a, b, radius, known):
    """(rows, columns) slices of the pixels that a capsule can cover, cut to the image; None if there are none."""
    ends = np.stack([a, b])
    centres = project_to_2d(ends, known["intrinsic"])
    reach = (radius * known["K"][0, 0] / np.maximum(ends[:, 2] - radius, 0.1) * 1.1 + MARGIN)[:, None]
    low, high = np.floor((centres - reach).min(0)), np.ceil((centres + reach).max(0)) + 1
    low, high = np.maximum(low, 0).astype(int), np.minimum(high, known["size"]).astype(int)
    if (low >= high).any():
        return None
    return slice(low[1], high[1]), slice(low[0], high[0])


@functools.lru_cache
def colours(subject):
    """{what is worn: RGB (3,)} of a subject."""
    rng = stream("wear", subject)
    return {name: np.clip(np.array(colour) + rng.uniform(-1, 1, 3) * WEAR_SPREAD[name], 15, 240)
            for name, colour in WEAR.items()}


def render_person(image, pose, subject, camera):
    """Draw a person into `image` (H, W, 3) uint8 and return where: a mask (H, W), bool.

    pose: (32, 3) world millimetres; camera: its id. Every joint that is drawn lies inside the mask, unless it is
    outside the image or behind the camera.
    """
    return draw_person(image, pose, subject, pixel_camera(camera, subject), pixel_rays(camera))


def draw_person(image, pose, subject, known, rays):
    """`render_person` for any camera: `known`, a dict as of `pixel_camera` with R and t; rays: as of `pixel_rays`."""
    joints = to_camera(np.asarray(pose, dtype=np.float64), known) / 1000
    light = known["R"] @ (LIGHT / np.linalg.norm(LIGHT))
    depths = np.full(image.shape[:2], np.inf)
    scale = SUBJECT_HEIGHTS[subject] / USUAL_HEIGHT
    for first, second, radius, wear in BODY:
        a, b, radius = joints[JOINT[first]], joints[JOINT[second]], radius * scale
        window = _window(a, b, radius, known) if min(a[2], b[2]) > radius + 0.1 else None
        if window is None:
            continue
        near = rays[window].astype(np.float64)
        depth, share = (values.reshape(near.shape[:2]) for values in _meet(near.reshape(-1, 2), a, b, radius))
        hit = depth < depths[window]
        depths[window][hit] = depth[hit]
        points = depth[hit][:, None] * np.concatenate([near[hit], np.ones((hit.sum(), 1))], axis=-1)
        axis = a + share[hit][:, None].clip(0, 1) * (b - a)
        brightness = AMBIENT + (1 - AMBIENT) * ((points - axis) / radius @ light).clip(0)
        if wear in ("shirt", "trousers"):
            ring = share[hit] * np.linalg.norm(b - a) / STRIPES % 1 < 0.3
            brightness *= np.where(ring, 0.75, 1.0)
        brightness *= LEFT if "left" in second else 1.0
        image[window][hit] = (brightness[:, None] * colours(subject)[wear]).clip(0, 255)
    return np.isfinite(depths)
