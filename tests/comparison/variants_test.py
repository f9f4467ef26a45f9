import json
from pathlib import Path

import pytest
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.comparison.variants import block_name, make_variants, parse_block, variant_name
from tests.conftest import PROJECT_ROOT

CONFIG = str(PROJECT_ROOT / "training_configs" / "sample" / "softmax.jsonnet")
FOLDER = Path("comparison")


@pytest.mark.parametrize(
    "argument, expected",
    [
        ("softmax", [{"type": "softmax"}]),
        ('{"type": "fusedmax", "lam": 0.2}', [{"type": "fusedmax", "lam": 0.2}]),
        ("{type: 'fusedmax', lam: 0.2}", [{"type": "fusedmax", "lam": 0.2}]),
        (
            '{"type": "fusedmax", "lam": [0.1, 1], "gamma": [1, 2]}',
            [
                {"type": "fusedmax", "gamma": 1, "lam": 0.1},
                {"type": "fusedmax", "gamma": 1, "lam": 1},
                {"type": "fusedmax", "gamma": 2, "lam": 0.1},
                {"type": "fusedmax", "gamma": 2, "lam": 1},
            ],
        ),
    ],
)
def test_an_argument_stands_for_attentions(argument, expected):
    assert parse_block("--attention", argument) == expected


@pytest.mark.parametrize(
    "argument, message",
    [
        ('{"type": "fusedmax"', "no JSON object"),
        ('{"lam": 0.1}', 'needs a "type"'),
        ("", 'needs a "type"'),
        ('{"type": "fusedmax", "lam": []}', '"lam" has no values'),
    ],
)
def test_an_argument_that_stands_for_none_is_named(argument, message):
    with pytest.raises(ConfigurationError, match=message):
        parse_block("--attention", argument)


def test_an_attention_is_named_by_what_it_is_given():
    block = {"type": "fusedmax", "gamma": 1.0, "similarity": {"type": "cosine"}}
    assert block_name(block) == 'fusedmax gamma=1.0 similarity={"type":"cosine"}'


def test_configs_times_attentions_times_seeds():
    overrides = '{"trainer.num_epochs": 1}'
    variants = make_variants(
        [CONFIG], ["softmax", "{type: 'fusedmax', lam: [0.1, 0.2]}"], [], [1, 2], overrides, FOLDER
    )
    assert [variant.name for variant in variants] == ["softmax", "fusedmax lam=0.1", "fusedmax lam=0.2"]
    for variant in variants:
        assert [trial.seed for trial in variant.trials] == [1, 2]
        for trial in variant.trials:
            assert trial.config["model"]["attention"] == variant.attention
            assert trial.config["trainer"]["num_epochs"] == 1
            seeds = [trial.config[key] for key in ("random_seed", "numpy_seed", "pytorch_seed")]
            assert seeds == [trial.seed] * 3
    folders = [trial.folder for variant in variants for trial in variant.trials]
    assert len(set(folders)) == 6


def test_what_is_trained_decides_the_folder():
    def folder(attentions, seeds, overrides=""):
        return make_variants([CONFIG], attentions, [], seeds, overrides, FOLDER)[0].trials[0].folder

    first = folder(["softmax"], [1])
    assert folder(["softmax", "sparsemax"], [1, 2]) == first
    assert folder(["softmax"], [1], '{"trainer.num_epochs": 1}') != first


def test_several_configs_are_told_apart():
    other = CONFIG.replace("softmax", "sparsemax")
    variants = make_variants([CONFIG, other], [], [], [1], "", FOLDER)
    assert [variant.name for variant in variants] == ["softmax gamma=1", "sparsemax gamma=1"]
    # The neighbours differ in nothing but the attention: with one attention for both, they are the same.
    with pytest.raises(ConfigurationError, match="given twice"):
        make_variants([CONFIG, other], ["softmax"], [], [1], "", FOLDER)


def test_archives_alike_but_for_the_seeds_are_one_variant(tmp_path):
    config = {"model": {"attention": {"type": "softmax"}}, "random_seed": 1}
    for name, changes in {
        "a": {},
        "b": {"random_seed": 2},
        "c": {"model": {"attention": {"type": "sparsemax"}}},
        "d": {"trainer": {"num_epochs": 3}},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({**config, **changes}))
    paths = [str(tmp_path / name) for name in "abcd"]
    variants = make_variants(paths, [], [], [], "", FOLDER)
    assert [variant.name for variant in variants] == [f"softmax ({paths[0]})", "sparsemax", f"softmax ({paths[3]})"]
    assert [(trial.seed, trial.archive) for trial in variants[0].trials] == [(1, paths[0]), (2, paths[1])]


@pytest.mark.parametrize(
    "sources, attentions, overrides, message",
    [
        (["nothing.jsonnet"], [], "", 'no config "nothing.jsonnet"'),
        (["nothing.tar.gz"], [], "", '"nothing.tar.gz" is no archive'),
        ([CONFIG], [], '{"trainer.nm_epochs.x": 1}', "softmax.jsonnet: .*nm_epochs"),
        ([CONFIG], ["softmax", '{"type": "softmax"}'], "", '"softmax.*" is given twice'),
    ],
)
def test_what_cannot_be_compared_is_named(sources, attentions, overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        make_variants(sources, attentions, [], [1], overrides, FOLDER)


def test_a_folder_that_is_no_archive_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="is no archive of a trained model"):
        make_variants([str(tmp_path)], [], [], [1], "", FOLDER)


def test_attentions_are_for_configs(archive):
    with pytest.raises(ConfigurationError, match="needs a config to train"):
        make_variants([str(archive)], ["softmax"], [], [1], "", FOLDER)


def test_a_config_without_attention_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model": {"type": "bert"}}')
    with pytest.raises(ConfigurationError, match='no block "attention"'):
        make_variants([str(tmp_path / "config.json")], ["softmax"], [], [1], "", FOLDER)


G2P = str(PROJECT_ROOT / "training_configs" / "g2p" / "softmax.jsonnet")


def test_each_alignment_is_combined_with_each_attention():
    variants = make_variants(
        [G2P], ["softmax", '{"type": "fusedmax", "lam": 0.1}'],
        ["exact", '{"type": "variational", "estimator": ["enumeration", "reinforce"]}'], [1], "", FOLDER,
    )  # fmt: skip
    alignments = ("exact", "variational estimator=enumeration", "variational estimator=reinforce")
    assert [variant.name for variant in variants] == [
        f"{attention}, {alignment}" for attention in ("softmax", "fusedmax lam=0.1") for alignment in alignments
    ]
    assert len({variant.trials[0].folder for variant in variants}) == 6
    for variant in variants:
        model = variant.trials[0].config["model"]
        # The blocks are replaced as a whole: nothing of the config's own stays in them.
        assert model["attention"] in ({"type": "softmax"}, {"type": "fusedmax", "lam": 0.1})
        assert model["latent_alignment"] == variant.latent_alignment
        assert model["latent_alignment"].keys() <= {"type", "estimator"}
    alone = make_variants([G2P], [], ["hard"], [1], "", FOLDER)
    assert [variant.name for variant in alone] == ["softmax gamma=1, hard"]


@pytest.mark.parametrize(
    "sources, alignments, message",
    [
        ([CONFIG], ["exact"], "--latent-alignment: the model of .*regularized_decomposable_attention, takes none"),
        ([G2P], ['{"estimator": "enumeration"}'], '--latent-alignment .* needs a "type"'),
        ([G2P], ["exact", "exact"], "softmax gamma=1, exact.* is given twice"),
    ],
)
def test_alignments_that_do_not_fit_are_named(sources, alignments, message):
    with pytest.raises(ConfigurationError, match=message):
        make_variants(sources, [], alignments, [1], "", FOLDER)


def test_alignments_are_for_configs(archive):
    with pytest.raises(ConfigurationError, match="--latent-alignment needs a config to train"):
        make_variants([str(archive)], [], ["exact"], [1], "", FOLDER)


@pytest.fixture
def self_attentive(tmp_path) -> str:
    """A config with places for regularizers in several depths, in dictionaries and lists."""
    config = {
        "model": {
            "type": "some_model",
            "attention": {"type": "softmax"},
            "encoder": {"type": "layers", "alignment_regularizer": {"type": "mmd", "weight": 0.1, "kernel": {"b": 2}}},
            "embedder": {"tokens": [{"dim": 3}, {"type": "bert", "alignment_regularizer": None}]},
            "dropout": 0.1,
        },
        "alignment_regularizer": {"type": "elsewhere"},
        "random_seed": 5,
    }
    path = tmp_path / "self_attentive.json"
    path.write_text(json.dumps(config))
    return str(path)


def test_a_regularizer_stands_in_every_place(self_attentive):
    variants = make_variants(
        [self_attentive], ["softmax", "sparsemax"], [], [1], "", FOLDER,
        alignment_regularizers=["none", '{"type": "kl", "weight": [0.1, 1]}'],
    )  # fmt: skip
    regularizers = ("no alignment regularizer", "kl weight=0.1", "kl weight=1")
    assert [variant.name for variant in variants] == [
        f"{attention}, {regularizer}" for attention in ("softmax", "sparsemax") for regularizer in regularizers
    ]
    assert len({variant.trials[0].folder for variant in variants}) == 6
    original = json.loads(Path(self_attentive).read_text())
    blocks = [None, {"type": "kl", "weight": 0.1}, {"type": "kl", "weight": 1}]
    for variant, block in zip(variants, blocks * 2, strict=True):
        model = variant.trials[0].config["model"]
        # Replaced as a whole; all else is the config's.
        assert model["encoder"] == {"type": "layers", "alignment_regularizer": block}
        assert model["embedder"] == {"tokens": [{"dim": 3}, {"type": "bert", "alignment_regularizer": block}]}
        assert (model["type"], model["dropout"]) == ("some_model", 0.1)
        assert variant.trials[0].config["alignment_regularizer"] == original["alignment_regularizer"]
        assert variant.alignment_regularizer == block


def test_configs_are_named_by_their_regularizers(self_attentive):
    (variant,) = make_variants([self_attentive], [], [], [1], "", FOLDER)
    # Jsonnet puts keys in the order of the alphabet.
    own = {"type": "mmd", "weight": 0.1, "kernel": {"b": 2}}
    assert variant.name == 'softmax, no alignment regularizer and mmd kernel={"b":2} weight=0.1'
    assert variant.alignment_regularizer == [None, own]
    assert variant.config == json.loads(Path(self_attentive).read_text())
    model = {"attention": {"type": "softmax"}, "latent_alignment": {"type": "exact"}}
    places = {"a": {"alignment_regularizer": {"type": "kl"}}, "b": {"alignment_regularizer": {"type": "kl"}}}
    assert variant_name({**model, **places}) == "softmax, exact, kl"
    assert variant_name(model) == "softmax, exact"


def test_archives_are_named_by_their_regularizers(self_attentive, tmp_path):
    config = json.loads(Path(self_attentive).read_text())
    for name, block in {"a": {"type": "kl"}, "b": None}.items():
        config["model"]["encoder"]["alignment_regularizer"] = block
        config["model"]["embedder"] = {}
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    variants = make_variants([str(tmp_path / name) for name in "ab"], [], [], [], "", FOLDER)
    assert [variant.name for variant in variants] == ["softmax, kl", "softmax, no alignment regularizer"]
    with pytest.raises(ConfigurationError, match="--alignment-regularizer needs a config to train"):
        make_variants([str(tmp_path / "a")], [], [], [1], "", FOLDER, ["none"])


def test_a_place_may_be_made_by_the_overrides():
    overrides = '{"model.text_field_embedder.alignment_regularizer": null}'
    (variant,) = make_variants([CONFIG], [], [], [1], overrides, FOLDER, ["mmd"])
    assert variant.trials[0].config["model"]["text_field_embedder"]["alignment_regularizer"] == {"type": "mmd"}
    assert variant.name == "softmax gamma=1, mmd"


def test_regularizers_that_do_not_fit_are_named(self_attentive):
    message = '--alignment-regularizer: the "model" of .*softmax.jsonnet has no key "alignment_regularizer".*encoder'
    with pytest.raises(ConfigurationError, match=message):
        make_variants([CONFIG], [], [], [1], "", FOLDER, ["none"])
    with pytest.raises(ConfigurationError, match=r'--alignment-regularizer .* needs a "type"'):
        make_variants([self_attentive], [], [], [1], "", FOLDER, ['{"weight": 0.1}'])
    with pytest.raises(ConfigurationError, match=r"no alignment regularizer.* is given twice"):
        make_variants([self_attentive], [], [], [1], "", FOLDER, ["none", "none"])
