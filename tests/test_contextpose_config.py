import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from common.contextpose.config import Config, as_config, load_config, to_dict, without_effect
from common.settings import known_keys, nearest_key
from common.utils import DependencyError, UsageError

EXPERIMENTS = sorted((ROOT / "experiments").glob("*/*/*.yaml"))


def written(folder, text):
    path = Path(folder) / "a.yaml"
    path.write_text(text)
    return path


def flat(settings, place=""):
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value


def test_without_a_file_there_are_the_published_defaults():
    config = load_config()
    assert config == Config() and config.model.backbone.num_layers == 152 and config.model.image_shape == [384, 384]
    assert (config.train.batch_size, config.val.batch_size) == (3, 6)
    assert config.model.volume_net.volume_aggregation_method == "softmax" and config.loss.criterion == "MAE"
    config.train.ignore_cameras.append(3)
    assert load_config().train.ignore_cameras == [], "defaults must not be shared"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_published_experiments_load_and_say_everything_that_is_published(path):
    config = load_config(path)
    assert (config.train.batch_size, config.val.batch_size, config.batch_output) == (4, 8, True)
    assert config.model.init_weights == (path.parent.name == "eval")
    given = dict(flat(yaml.safe_load(path.read_text())))
    ours = {"model.volume_net.use_context_attention", "train.n_iters_per_epoch", "train.backbone_epochs",
            "train.backbone_batch_size"}
    assert set(dict(flat(to_dict(config)))) - set(given) <= ours
    assert dict(flat(to_dict(config))).items() >= given.items()


def test_the_demo_uses_every_setting_that_it_changes():
    path = ROOT / "experiments/demo/contextpose.yaml"
    assert not without_effect(load_config(path))


def test_settings_that_change_no_result_are_known():
    changed = ["model.heatmap_shape=[7, 9]", "val.shuffle=true", "dataset.extra_root=elsewhere", "train.batch_size=7"]
    assert without_effect(load_config(None, changed)) == ["dataset.extra_root", "val.shuffle", "model.heatmap_shape"]


def test_a_file_that_is_written_back_gives_the_same_configuration(tmp_path):
    config = load_config(EXPERIMENTS[0], ["train.backbone_lr_step=[3, 5]", "model.volume_net.temperature=12.5"])
    assert load_config(written(tmp_path, yaml.safe_dump(to_dict(config)))) == config == as_config(to_dict(config))


def test_a_flag_overrides_any_key_of_the_file_and_the_last_one_wins(tmp_path):
    path = written(tmp_path, "train: {batch_size: 7, shuffle: false}\nval:\n")
    config = load_config(path, ["train.batch_size=2", "train.batch_size = 5", "title=a=b", "val={batch_size: 1}",
                                "train.n_iters_per_epoch=10"])
    assert (config.train.batch_size, config.train.shuffle, config.val.batch_size) == (5, False, 1)
    assert config.title == "a=b" and config.train.n_iters_per_epoch == 10
    assert load_config(path, ["train.n_iters_per_epoch=null"]).train.n_iters_per_epoch is None
    defaults = dict(flat(to_dict(Config())))
    texts = {key: yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n") for key, value
             in defaults.items()}
    assert load_config(None, [f"{key}={text}" for key, text in texts.items()]) == Config()


@pytest.mark.parametrize("text, value", [("1e-4", 1e-4), ("0.001", 0.001), ("2", 2.0)])
def test_numbers_are_read_as_people_write_them(text, value, tmp_path):
    assert load_config(None, [f"train.backbone_lr={text}"]).train.backbone_lr == value
    assert load_config(written(tmp_path, f"train:\n  backbone_lr: {text}")).train.backbone_lr == value


@pytest.mark.parametrize("place, nearest", [
    ("train.batchsize", "train.batch_size"),
    ("val.batch_sise", "val.batch_size"),
    ("train.criterion", "loss.criterion"),
    ("backbone", "model.backbone"),
    ("model.backbone.volume_size", "model.volume_net.volume_size"),
    ("model.volumenet", "model.volume_net"),
    ("lr", "train.backbone_lr"),
    ("model.volume_net.agregation_method", "model.volume_net.volume_aggregation_method"),
])
def test_an_unknown_key_is_refused_with_the_nearest_known_one(place, nearest, tmp_path):
    *sections, key = place.split(".")
    text = "".join("  " * i + f"{name}:\n" for i, name in enumerate(sections)) + "  " * len(sections) + f"{key}: 1\n"
    path = written(tmp_path, text)
    for load, where in ((lambda: load_config(path), path), (lambda: load_config(None, [f"{place}=1"]), "--set")):
        with pytest.raises(UsageError) as caught:
            load()
        message = str(caught.value)
        assert str(where) in message and f"unknown key {place};" in message, message
        assert nearest_key(Config, place.split(".")) in message
    if place != "lr":
        assert message.endswith(f"the nearest known one is {nearest}")


def test_a_key_unlike_any_other_is_refused_too():
    assert nearest_key(Config, ("qqqq",)) in {".".join(key) for key in known_keys(Config)}


@pytest.mark.parametrize("setting, words", [
    ("train.batch_size=2.5", "train.batch_size must be a whole number, not 2.5"),
    ("train.batch_size=true", "must be a whole number, not True"),
    ("train.batch_size='4'", "must be a whole number, not '4'"),
    ("train.shuffle=1", "train.shuffle must be true or false, not 1"),
    ("train.backbone_lr=fast", "train.backbone_lr must be a number, not 'fast'"),
    ("train.backbone_lr=.nan", "must be a number, not nan"),
    ("train.backbone_lr=true", "must be a number, not True"),
    ("train.backbone_lr=null", "must be a number, not None"),
    ("train.backbone_lr_step=1000", r"must be a list of whole numbers such as \[1000\], not 1000"),
    ("model.image_shape=[384]", "model.image_shape must be two numbers of pixels"),
    ("title=3", "title must be text, not 3"),
    ("model.backbone=resnet152", "model.backbone is a section of settings, not 'resnet152'"),
    ("model.backbone.num_layers=99", "num_layers is 99; choose from 18, 34, 50, 101, 152"),
    ("model.volume_net.volume_aggregation_method=mean", "'mean'; choose from 'sum', 'max'"),
    ("model.volume_net.volume_size=66", "volume_size must be a multiple of 4"),
    ("model.volume_net.use_feature_v2v=false", "use_feature_v2v is False; choose from True"),
    ("model.backbone.num_joints=16", "num_joints must be 17, not 16"),
    ("val.batch_size=0", "val.batch_size must be more than 0, not 0"),
    ("loss.criterion=MSESmooth", "MSESmooth needs loss.mse_smooth_threshold above 0"),
    ("train.batch_size", "expected a key, = and a value"),
    ("train.batch_size=[", "not a YAML value"),
    ("title.x=1", "title must be text"),
])
def test_wrong_values_are_refused_in_one_line_with_their_place(setting, words):
    with pytest.raises(UsageError, match=words) as caught:
        load_config(None, [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text, words", [
    ("train: [1, 2]", "train is a section of settings"),
    ("- 1", "expected a section of settings"),
    ("train: {batch_size: 1", "no YAML.*line 1"),
    ("train:\n  batch_size: 1\n  batch_size: 2", "no YAML.*batch_size stands twice in the section of line 2"),
    ("title: !!python/object/apply:os.system ['true']", "no YAML.*python/object"),
    ("1: 2", "unknown key 1"),
])
def test_files_that_are_no_configuration_are_refused_by_name(text, words, tmp_path):
    with pytest.raises(UsageError, match=f"a.yaml: {words}") as caught:
        load_config(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files_are_named(tmp_path):
    with pytest.raises(UsageError, match="b.yaml: could not be read .No such file"):
        load_config(tmp_path / "b.yaml")
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UsageError, match="a.yaml: "):
        load_config(tmp_path / "a.yaml")


def test_values_that_unfold_to_billions_are_refused_in_a_short_message(tmp_path):
    lines = ["title:", "  - &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"  - &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(UsageError, match="title must be text") as caught:
        load_config(written(tmp_path, "\n".join(lines)))
    assert len(str(caught.value)) < 300


def test_without_pyyaml_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(DependencyError, match="pip install pyyaml"):
        load_config(EXPERIMENTS[0])
