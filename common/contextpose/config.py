"""The settings of ContextPose: their names, types and defaults, and YAML files and flags that change them.

    config = load_config("experiments/human36m/train/human36m_vol_softmax_single.yaml", ["train.batch_size=2"])
    config.train.batch_size     # 2

Every setting stands once, below. A key that does not is refused with the nearest one that does; so is a wrong type.
"""
import dataclasses
from dataclasses import dataclass, field

from common.contextpose.pose_resnet import DEPTHS, STYLES
from common.contextpose.volumetric import AGGREGATIONS
from common.settings import merge, override, plain_dicts, read_yaml
from common.utils import UsageError

CRITERIA = ("MAE", "MSE", "MSESmooth")


def _list(*values):
    return field(default_factory=lambda: list(values))


def _choice(default, *choices):
    return field(default=default, metadata={"choices": choices})


@dataclass
class BackboneConfig:
    """The 2D network."""

    name: str = "resnet152"  # a title; num_layers builds the network
    style: str = _choice("simple", *STYLES)
    num_final_layer_channel: int = 17  # heatmaps; no pose depends on them
    num_joints: int = 17
    num_layers: int = _choice(152, *DEPTHS)
    init_weights: bool = False  # load `checkpoint`
    fix_weights: bool = False  # leave the backbone as it is while training (after train.backbone_epochs)
    checkpoint: str = ""


@dataclass
class VolumeNetConfig:
    """The volume and the network on it."""

    volume_aggregation_method: str = _choice("softmax", *AGGREGATIONS)
    use_gt_pelvis: bool = False  # centre of the volume: the true pelvis, not the precalculated one
    cuboid_size: float = 2500.0  # mm a side
    volume_size: int = 64  # points a side, a multiple of 4 of at least 8
    volume_multiplier: float = 1.0
    volume_softmax: bool = True
    use_feature_v2v: bool = _choice(True, True)  # the volume is made of features, never of heatmaps
    att_channels: int = _choice(51, 51)  # three a joint
    temperature: float = 1500.0
    use_context_attention: bool = True  # ours: False puts an ordinary residual block in its place


@dataclass
class ModelConfig:
    """The network. The heatmaps' settings change no pose: nothing but the features goes into the volume."""

    name: str = _choice("vol", "vol")
    kind: str = _choice("mpii", "mpii")  # the order of the joints
    image_shape: list[int] = _list(384, 384)
    heatmap_shape: list[int] = _list(96, 96)
    heatmap_softmax: bool = True
    heatmap_multiplier: float = 100.0
    init_weights: bool = False  # load `checkpoint`, a whole network
    checkpoint: str = ""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    volume_net: VolumeNetConfig = field(default_factory=VolumeNetConfig)


@dataclass
class LossConfig:
    """What is minimised."""

    criterion: str = _choice("MAE", *CRITERIA)
    mse_smooth_threshold: float = 0.0  # of MSESmooth, in squared scaled units
    grad_clip: float = 0.0  # largest norm of the gradients; 0 is no limit
    scale_keypoints_3d: float = 0.1  # joints are compared in mm times this
    use_volumetric_ce_loss: bool = True
    volumetric_ce_loss_weight: float = 0.01
    use_global_attention_loss: bool = True
    global_attention_loss_weight: float = 1_000_000.0


@dataclass
class DatasetConfig:
    """Where the data are."""

    kind: str = _choice("human36m", "human36m", "mpi_inf_3dhp")  # mpi_inf_3dhp: its test sequences, for evaluation only
    data_format: str = _choice("", "", "zip")
    transfer_cmu_to_human36m: bool = False
    root: str = "data/human36m/processed"
    extra_root: str = "data/human36m/extra"
    train_labels_path: str = "data/human36m/extra/human36m-multiview-labels-GTbboxes.npy"
    val_labels_path: str = "data/human36m/extra/human36m-multiview-labels-GTbboxes.npy"
    train_dataset: str = "multiview_human36m"
    val_dataset: str = "multiview_human36m"


@dataclass
class _LoaderConfig:
    """What training and validation data have in common."""

    batch_size: int = 3
    with_damaged_actions: bool = True
    undistort_images: bool = True
    scale_bbox: float = 1.0
    ignore_cameras: list[int] = _list()
    crop: bool = True
    erase: bool = False  # occlusion test: squares round five joints are filled with their mean colour
    shuffle: bool = False
    randomize_n_views: bool = False
    min_n_views: int = 1
    max_n_views: int = 1
    num_workers: int = 4
    limb_length_path: str = "data/human36m/extra/mean_and_std_limb_length.h5"
    pred_results_path: str = ""  # precalculated skeletons, whose pelvis is the centre of the volume


@dataclass
class TrainConfig(_LoaderConfig):
    """Training: data and optimisers."""

    n_objects_per_epoch: int = 15000
    n_epochs: int = 9999
    n_iters_per_epoch: int | None = None  # None: n_objects_per_epoch over the batch size
    shuffle: bool = True
    randomize_n_views: bool = True
    optimizer: str = _choice("Adam", "Adam")
    backbone_lr: float = 1e-4
    backbone_lr_step: list[int] = _list(1000)
    backbone_lr_factor: float = 0.1
    backbone_epochs: int = 0  # ours: for so many epochs at first the backbone alone learns where joints are in images
    backbone_batch_size: int | None = None  # ours: in these epochs; None: batch_size
    process_features_lr: float = 1e-3
    volume_net_lr: float = 1e-3
    volume_net_lr_step: list[int] = _list(1000)
    volume_net_lr_factor: float = 0.5
    pred_results_path: str = "data/pretrained/human36m/human36m_alg_10-04-2019/checkpoints/0060/results/train.pkl"


@dataclass
class ValConfig(_LoaderConfig):
    """Validation data."""

    batch_size: int = 6
    retain_every_n_frames_in_test: int = 1
    pred_results_path: str = "data/pretrained/human36m/human36m_alg_10-04-2019/checkpoints/0060/results/val.pkl"


@dataclass
class Config:
    """All settings of run_contextpose.py."""

    title: str = "human36m_vol_softmax_single"
    kind: str = _choice("human36m", "human36m")
    azureroot: str = ""  # put before every path
    logdir: str = "logs"
    batch_output: bool = False  # print the losses of every batch
    vis_freq: int = 1000  # batches between pictures
    vis_n_elements: int = 10  # samples in a picture
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    val: ValConfig = field(default_factory=ValConfig)


def load_config(path=None, overrides=()):
    """The defaults, changed by a YAML file and then by overrides, `section.key=value` with the value in YAML.

    Raises UsageError, in one line with the place, for a file that is missing or no YAML, keys that do not exist,
    wrong types, values out of their choices and settings that do not fit together; DependencyError without pyyaml.
    """
    config = Config()
    if path is not None:
        merge(config, read_yaml(path), str(path))
    for assignment in overrides:
        override(config, assignment)
    check(config)
    return config


def as_config(settings):
    """A Config of whatever holds settings: a Config, nested dicts, or objects with attributes; the rest is default."""
    config = settings
    if not isinstance(settings, Config):
        config = Config()
        merge(config, plain_dicts(settings), "config")
    check(config)
    return config


def to_dict(config):
    """A Config as nested plain dicts, for YAML and checkpoints."""
    return dataclasses.asdict(config)


# {section: settings} that must be above 0, and those that may be 0 too.
ABOVE_ZERO = {"model.volume_net": ("cuboid_size", "temperature", "volume_multiplier"),
              "model.backbone": ("num_final_layer_channel",), "loss": ("scale_keypoints_3d",),
              "train": ("batch_size", "n_objects_per_epoch", "n_epochs", "scale_bbox", "backbone_lr_factor",
                        "volume_net_lr_factor"),
              "val": ("batch_size", "scale_bbox", "retain_every_n_frames_in_test"), "": ("vis_n_elements",)}
AT_LEAST_ZERO = {"loss": ("grad_clip", "mse_smooth_threshold", "volumetric_ce_loss_weight",
                          "global_attention_loss_weight"),
                 "train": ("backbone_epochs", "backbone_lr", "process_features_lr", "volume_net_lr", "num_workers"),
                 "val": ("num_workers",), "": ("vis_freq",)}


def check(config):
    """Refuse numbers that no setting can have and settings that do not fit together."""
    _check_range(config, ABOVE_ZERO, lambda number: number > 0, "more than 0")
    _check_range(config, AT_LEAST_ZERO, lambda number: number >= 0, "0 or more")
    n = config.model.volume_net.volume_size
    if n < 8 or n % 4:
        raise UsageError(f"model.volume_net.volume_size must be a multiple of 4 of at least 8, not {n}")
    for name in ("image_shape", "heatmap_shape"):
        shape = getattr(config.model, name)
        if len(shape) != 2 or min(shape) <= 0:
            raise UsageError(f"model.{name} must be two numbers of pixels, not {shape}")
    for name in ("backbone_lr_step", "volume_net_lr_step"):
        if any(epoch < 1 for epoch in getattr(config.train, name)):
            raise UsageError(f"train.{name} must be epochs from 1 on, not {getattr(config.train, name)}")
    for place in ("train", "val"):
        _check_section(place, getattr(config, place))
    if config.model.backbone.num_joints != 17:
        raise UsageError(f"model.backbone.num_joints must be 17, not {config.model.backbone.num_joints}")
    for name in ("backbone_batch_size", "n_iters_per_epoch"):
        number = getattr(config.train, name)
        if number is not None and number < 1:
            raise UsageError(f"train.{name} must be more than 0, not {number}")
    if config.loss.criterion == "MSESmooth" and config.loss.mse_smooth_threshold <= 0:
        raise UsageError("loss.criterion MSESmooth needs loss.mse_smooth_threshold above 0")


def _check_range(config, places, fits, words):
    """Refuse those of the settings {place: names} that do not fit; words: what they must be."""
    for place, names in places.items():
        for name in names:
            number = getattr(section_of(config, place), name)
            if not fits(number):
                raise UsageError(f"{place}.{name} must be {words}, not {number}".lstrip("."))


def section_of(config, place):
    """The section at a place such as `model.backbone`; the whole configuration at ``."""
    for key in filter(None, place.split(".")):
        config = getattr(config, key)
    return config


def _check_section(place, section):
    """Refuse numbers of views that cannot be."""
    low, high = section.min_n_views, section.max_n_views
    if not 1 <= low <= high:
        raise UsageError(f"{place}.min_n_views must be from 1 to {place}.max_n_views, not {low} with {high}")


# Settings of the published files that change no result: of heatmaps, which nothing but the pictures shows; of the order
# of validation, which goes through all views of all rows; and names.
WITHOUT_EFFECT = ("model.heatmap_softmax", "model.heatmap_multiplier", "dataset.extra_root", "dataset.train_dataset",
                  "dataset.val_dataset", "val.shuffle", "val.randomize_n_views")


def without_effect(config):
    """The names of settings that were changed although nothing follows from them."""
    usual, changed = Config(), []
    for name in WITHOUT_EFFECT:
        place, _, key = name.rpartition(".")
        if getattr(section_of(config, place), key) != getattr(section_of(usual, place), key):
            changed.append(name)
    if config.model.heatmap_shape not in (usual.model.heatmap_shape, [side // 4 for side in config.model.image_shape]):
        changed.append("model.heatmap_shape")
    return changed


def differences(config, other):
    """The names, with points, of the settings in which two nested dicts differ."""
    names = []
    for key in config.keys() | other.keys():
        one, two = config.get(key), other.get(key)
        if isinstance(one, dict) and isinstance(two, dict):
            names += [f"{key}.{name}" for name in differences(one, two)]
        elif one != two:
            names.append(key)
    return sorted(names)
