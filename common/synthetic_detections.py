"""Miniature files of 2D detectors, exactly as the detectors write them, from poses whose motion is known.

`people`, which every writer takes, is a list of frames; a frame is a list of (keypoints (J, 2) pixels, NaN where a
joint was not found, scores (J,), box x1 y1 x2 y2, id or None). `people_of` makes it of motions.
"""
import json
from pathlib import Path

import numpy as np

from common.keypoints import LAYOUTS

MARGIN = 0.1  # of a box round the joints, as a share of their extent


def people_of(motions, ids=None, seed=None, score=0.9):
    """`people` of motions [(frames, J, 2), ...]; where all joints of one are NaN in a frame, it is absent.

    ids: one per motion, or None; seed: shuffles the people of each frame, who else stand in the order of the motions.
    """
    rng = None if seed is None else np.random.default_rng(seed)
    people = []
    for frame in range(len(motions[0])):
        order = range(len(motions)) if rng is None else rng.permutation(len(motions))
        people.append([one_person(motions[number][frame], None if ids is None else ids[number], score)
                       for number in order if np.isfinite(motions[number][frame]).any()])
    return people


def one_person(keypoints, identity=None, score=0.9):
    """An entry of `people`: keypoints (J, 2), the same score for each joint that was found, a box round them."""
    low, high = np.nanmin(keypoints, axis=0), np.nanmax(keypoints, axis=0)
    margin = MARGIN * (high - low)
    scores = np.where(np.isfinite(keypoints[:, 0]), score, 0.0)
    return keypoints, scores, np.concatenate([low - margin, high + margin]), identity


def write_detectron(path, people, size=None):
    """VideoPose3D's npz (`infer_video_d2.py`): per frame [[], (n, 5)] boxes and [[], (n, 4, J)] x y logit probability.
    """
    boxes, keypoints = (np.empty((len(people), 2), dtype=object) for _ in range(2))
    for frame, entries in enumerate(people):
        boxes[frame] = keypoints[frame] = [[], []]
        if entries:
            boxes[frame, 1] = np.array([[*box, np.max(scores)] for _, scores, box, _ in entries], dtype=np.float32)
            keypoints[frame, 1] = np.array([[*_whole(joints).T, np.zeros(len(scores)), scores]
                                            for joints, scores, _, _ in entries], dtype=np.float32)
    metadata = {} if size is None else {"metadata": np.array({"w": size[0], "h": size[1]}, dtype=object)}
    np.savez_compressed(path, boxes=boxes, segments=np.array([None] * len(people), dtype=object), keypoints=keypoints,
                        **metadata)


def write_openpose(folder, people, name=None, first=0):
    """OpenPose's folder (`--write_json`): `NAME_000000000012_keypoints.json` per frame; BODY_25, or COCO's 18."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    others = ("face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d", "pose_keypoints_3d",
              "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d")
    for frame, entries in enumerate(people):
        found = [{"person_id": [-1 if identity is None else int(identity)],
                  "pose_keypoints_2d": _triples(joints, scores), **{key: [] for key in others}}
                 for joints, scores, _, identity in entries]
        _write_json(folder / f"{name or folder.name}_{frame + first:012d}_keypoints.json",
                    {"version": 1.3, "people": found})


def write_alphapose(path, people, image="{}.jpg", first=0):
    """AlphaPose's JSON: COCO-17, Halpe-26 or Halpe-136; image: names of the frames, `frame_{:06d}.jpg` of pictures."""
    entries = []
    for frame, found in enumerate(people):
        for joints, scores, box, identity in found:
            entry = {"image_id": image.format(frame + first), "category_id": 1, "keypoints": _triples(joints, scores),
                     "score": float(np.mean(scores) + np.max(scores)), "box": _corner_and_size(box)}
            entries.append(entry | {"idx": 0.0 if identity is None else int(identity)})
    _write_json(path, entries)


def write_mmpose(path, people, layout="coco", first=1):
    """MMPose's JSON (`--save-predictions`) of its video demo, whose frames count from 1."""
    names = LAYOUTS[layout].names()
    meta = {"dataset_name": layout, "num_keypoints": len(names),
            "keypoint_id2name": {str(joint): name for joint, name in enumerate(names)},
            "keypoint_name2id": {name: joint for joint, name in enumerate(names)}}
    frames = []
    for frame, entries in enumerate(people):
        instances = []
        for joints, scores, box, identity in entries:
            instance = {"keypoints": _whole(joints).tolist(), "keypoint_scores": _numbers(scores),
                        "bbox": [_numbers(box)], "bbox_score": float(np.max(scores))}
            instances.append(instance if identity is None else instance | {"track_id": int(identity)})
        frames.append({"frame_id": frame + first, "instances": instances})
    _write_json(path, {"meta_info": meta, "instance_info": frames})


def write_coco_results(path, people, first=0, boxes=False):
    """COCO's results JSON: a list of people with a whole `image_id`; boxes: with `bbox` x y w h."""
    entries = []
    for frame, found in enumerate(people):
        for joints, scores, box, identity in found:
            entry = {"image_id": frame + first, "category_id": 1, "keypoints": _triples(joints, scores),
                     "score": float(np.mean(scores))}
            entry |= {"bbox": _corner_and_size(box)} if boxes else {}
            entries.append(entry if identity is None else entry | {"track_id": int(identity)})
    _write_json(path, entries)


WRITERS = {"detectron": write_detectron, "openpose": write_openpose, "alphapose": write_alphapose,
           "mmpose": write_mmpose, "coco": write_coco_results}
# The joints that each of them finds, unless it was told otherwise.
LAYOUT_OF = {"detectron": "coco", "openpose": "body25", "alphapose": "halpe26", "mmpose": "coco", "coco": "coco"}


def _whole(joints):
    """Joints as detectors write them: a missing one is 0, 0."""
    return np.where(np.isnan(joints), 0.0, joints)


def _numbers(values):
    return [float(value) for value in np.asarray(values)]


def _triples(joints, scores):
    return _numbers(np.concatenate([_whole(joints), np.asarray(scores)[:, None]], axis=1).ravel())


def _corner_and_size(box):
    return _numbers([box[0], box[1], box[2] - box[0], box[3] - box[1]])


def _write_json(path, content):
    Path(path).write_text(json.dumps(content, separators=(",", ":")))
