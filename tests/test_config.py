"""Presets and prompt files: defaults as documented, and messages that name file, key and fix."""

from pathlib import Path

import pytest

from nandlib.data.groups import load_grouping
from nandlib.errors import PresetError
from nandlib.method.config import NandConfig, PromptConfig
from nandlib.method.prompts import load_prompts
from nandlib.settings import read_yaml
from nandlib.study.preset import load_study

ROOT = Path(__file__).parents[1]
PRESET = """
name: mine
title: t
data: {root: data/mine}
model: {name: mini, weights: w.safetensors}
prompts: {}
nand: {}
detectors: [aprilgan]
winclip: {}
patchcore: {}
trained: {}
figures: {}
"""


def load(tmp_path, old="", new="", name="mine"):
    assert old in PRESET
    path = tmp_path / f"{name}.yaml"
    path.write_text(PRESET.replace(old, new) if old else PRESET)
    return load_study(path)


def test_defaults_are_the_documented_ones(tmp_path):
    nand = load(tmp_path).nand
    assert nand == NandConfig()
    assert (nand.temperature, nand.layers, nand.layer_aggregation, nand.softmax_against) == (None, None, "mean", ("normal",))
    assert (nand.map_size, nand.resize, nand.align_corners) == (256, "logits", True)
    assert (nand.base_normalisation, nand.image_score) == ("none", "max")
    assert load(tmp_path).prompts == PromptConfig(group_text="union", class_name="verbatim", average="normalised")


@pytest.mark.parametrize("preset", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_preset_of_the_repository_is_valid(preset):
    study = load_study(preset)
    load_grouping(study.data.groups)
    load_prompts(study.prompts)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nand: {}", "nand: {temprature: 3}", r"mine.yaml: unknown key 'nand.temprature': did you mean 'temperature'\?"),
        ("figures: {}", "figurs: {}", r"unknown key 'figurs': did you mean 'figures'\?"),
        ("data: {root: data/mine}", "data: {root: a, drawn: {}, catalogue: mvtec_ad}", "leave it out beside drawn"),
        ("data: {root: data/mine}", "data: {root: a, drawn: {sead: 1}}", r"unknown key 'data.drawn.sead': did you mean 'seed'\?"),
        ("[aprilgan]", "[april_gan]", r"key 'detectors.0' is 'april_gan': did you mean 'aprilgan'\?"),
        ("nand: {}", "nand: {layer_aggregation: men}", r"key 'nand.layer_aggregation' is 'men': did you mean 'mean'\?"),
        ("nand: {}", "nand: {temperature: -1}", "key 'nand.temperature': Input should be greater than 0"),
        ("winclip: {}\n", "", "key 'winclip' is missing: copy it from studies/template.yaml"),
        ("name: mine", "name: yours", "key 'name' is 'yours' but must be the file's name, 'mine'"),
        ("[aprilgan]", "aprilgan", r"key 'detectors': must be a list, such as \[aprilgan\]"),
        ("name: mine", "name: my-parts", "key 'name' is 'my-parts': small letters, digits and _ alone"),
        ("name: mine", "name: mine\nname: mine", r'found duplicate key "name"(?!.*suppress)'),
        ("name: mine", "name: [", "is not valid YAML"),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, message):
    with pytest.raises(PresetError, match=message):
        load(tmp_path, old, new)


def test_a_models_name_that_a_shell_would_read_is_refused(tmp_path):
    with pytest.raises(PresetError, match=r"mine.yaml.*model.*the folder's name '\$\(touch harm\)' names the model"):
        load(tmp_path, "weights: w.safetensors", 'weights: "data/models/$(touch harm)/heads.safetensors", training: {seed: 1}')


def test_missing_preset_suggests_a_neighbour(tmp_path):
    load(tmp_path)
    with pytest.raises(PresetError, match=r"mne.yaml does not exist: did you mean .*mine.yaml"):
        load_study(tmp_path / "mne.yaml")


def test_preset_must_be_a_mapping(tmp_path):
    (tmp_path / "a.yaml").write_text("- 1")
    with pytest.raises(PresetError, match="must be a mapping"):
        load_study(tmp_path / "a.yaml")


def test_prompt_counts_are_aprilgans():
    prompts = load_prompts(PromptConfig())
    assert len(prompts.templates) == len(set(prompts.templates)) == 35
    assert len(prompts.normal("metal_nut")) == 245
    assert len(prompts.abnormal("metal_nut")) == 175
    assert prompts.normal("metal_nut")[0] == "a bad photo of a metal_nut."
    assert "a photo of the broken metal_nut." in prompts.abnormal("metal_nut")


def test_class_name_can_be_cleaned():
    prompts = load_prompts(PromptConfig(class_name="cleaned"))
    assert prompts.normal("metal_nut")[0] == "a bad photo of a metal nut."


def test_all_56_groups_have_five_phrases_or_more_with_the_noun_somewhere():
    prompts, grouping = load_prompts(PromptConfig()), load_grouping("mvtec_ad").classes
    assert sum(len(groups) for groups in grouping.values()) == 56
    for class_name, groups in grouping.items():
        for group, types in groups.items():
            phrases = prompts.group_phrases(class_name, group, types)
            assert len(phrases) >= 5 * len(types)
            assert len(set(phrases)) == len(phrases)


def test_phrases_of_a_group():
    prompts = load_prompts(PromptConfig())
    union = prompts.group_phrases("carpet", "cut", ["cut", "hole"])
    assert union == prompts.phrases["carpet"]["cut"] + prompts.phrases["carpet"]["hole"]
    named = load_prompts(PromptConfig(group_text="group_name"))
    assert named.group_phrases("carpet", "cut", ["cut", "hole"]) == ["cut on carpet"]
    typed = load_prompts(PromptConfig(file="type_name"))
    assert typed.group_phrases("cable", "cut_insulation", ["cut_inner_insulation", "poke"]) == ["cut inner insulation", "poke"]
    styled = load_prompts(PromptConfig(file="type_templates", group_text="group_name"))
    assert styled.group_phrases("metal_nut", "bent", ["x"])[:2] == ["bent metal nut", "metal nut with bent"]
    own = load_prompts(PromptConfig())
    own.phrases["carpet"]["metal"] = ["shiny thing"]
    assert own.group_phrases("carpet", "metal", ["metal_contamination"]) == ["shiny thing"]


def test_missing_phrases_are_named():
    prompts = load_prompts(PromptConfig())
    with pytest.raises(PresetError, match=r"no phrases for class 'carpett': did you mean 'carpet'\?"):
        prompts.group_phrases("carpett", "cut", ["cut"])
    with pytest.raises(PresetError, match=r"no phrases for type 'thred' of class 'carpet': did you mean 'thread'\?"):
        prompts.group_phrases("carpet", "thred", ["thred"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: {}", "'templates' must be a list of sentences"),
        ("base: aprilgan\ntemplates: ['a photo']", "must hold exactly one {}"),
        ("base: aprilgan\ntemplates: ['a {:d}']", "must hold exactly one {}"),
        ("base: aprilgan\npatterns: ['a {type!r}']", "must hold {type}"),
        ("base: aprilgan\nclasses: {a: {b: []}}", "a/b must be a list of at least one phrase"),
        ("base: aprilgan\nclases: {}", r"unknown key 'clases': did you mean 'classes'\?"),
        ("base: aprilgan\npatterns: ['{class}']", "must hold {type}"),
        ("base: aprilgan\npatterns: ['{type} {noun}']", "may hold {class}"),
        ("base: aprilgan\npatterns: ['{type}']\nclasses: {a: {b: [c]}}", "'classes' or 'patterns', not both"),
        ("base: own.yaml", "'base: own.yaml' must name a file of the package"),
        ("base: aprilgn", r"did you mean 'aprilgan'\?"),
        ("- a", "must be a mapping"),
    ],
)
def test_broken_prompt_files(tmp_path, text, message):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(PresetError, match=message):
        load_prompts(PromptConfig(file=str(tmp_path / "p.yaml")))


def test_the_template_shows_every_key_with_its_default():
    shown = read_yaml(ROOT / "studies/template.yaml")
    study = load_study(ROOT / "studies/template.yaml")
    whole = study.model_dump(mode="json")

    def missing(given: dict, known: dict, at: str = "") -> list[str]:
        found = [f"{at}{key}" for key in known if key not in given]
        inner = [key for key in known if isinstance(known[key], dict) and given.get(key)]
        return found + [name for key in inner for name in missing(given[key], known[key], f"{at}{key}.")]

    assert missing(shown, whole) == []
    for section in ("data", "model", "prompts", "nand", "winclip", "patchcore", "figures", "engine"):
        kind = type(getattr(study, section))
        for key, field in kind.model_fields.items():
            if not field.is_required() and key != "file":
                assert getattr(getattr(study, section), key) == field.get_default(call_default_factory=True), f"{section}.{key}"
