"""Configs by name."""

import json

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.commands.compare_attention import make_variants
from regattn_allennlp.named_configs import find_config
from tests.conftest import PROJECT_ROOT, SMALL

FOLDER = PROJECT_ROOT / "training_configs"
CONFIGS = sorted(FOLDER.glob("*/*.jsonnet"))
INCLUDE = ("--include-package", "regattn_allennlp")


def test_each_config_has_a_name_and_what_it_imports_is_found():
    for path in CONFIGS:
        name = f"regattn:{path.parent.name}/{path.stem}"
        assert Params.from_file(name).as_dict(quiet=True) == Params.from_file(path).as_dict(quiet=True)


def test_overrides_and_a_class_of_ones_own_go_with_names():
    class Own(Params):
        pass

    params = Own.from_file("regattn:sample/fusedmax", {"model.attention.lam": 7})
    assert type(params) is Own and params["model"]["attention"]["lam"] == 7


def test_the_commands_take_names(allennlp, tmp_path, capsys):
    data = json.dumps(SMALL)
    allennlp("train", "regattn:sample/oscarmax", "-s", tmp_path / "trained", *INCLUDE, "-o", data)
    assert json.loads((tmp_path / "trained" / "config.json").read_text())["model"]["attention"]["type"] == "oscarmax"
    allennlp("count-instances", "regattn:alignment/graph", *INCLUDE)
    assert "One epoch of training contains 500 instances" in capsys.readouterr().out


def test_a_comparison_takes_names(tmp_path):
    names, paths = (
        [
            (variant.name, [trial.config for trial in variant.trials])
            for variant in make_variants([source], ["softmax", "fusedmax"], [], [1], "", tmp_path)
        ]
        for source in ("regattn:sample/softmax", str(FOLDER / "sample" / "softmax.jsonnet"))
    )
    assert names == paths


@pytest.mark.parametrize("name", ["regattn:sample/fusedmx", "regattn:common/sample", "regattn:../README", "regattn:"])
def test_a_misspelt_name_is_told_the_right_ones_in_one_line(name):
    with pytest.raises(ConfigurationError) as error:
        Params.from_file(name)
    message = str(error.value)
    assert message.startswith(f"There is no config {name}; there are regattn:alignment/entailment, ")
    assert "regattn:sample/fusedmax" in message and len(message.splitlines()) == 1


def test_a_path_stays_what_it_is(tmp_path):
    for path in ("training_configs/sample/softmax.jsonnet", tmp_path, "https://example.org/config.json"):
        assert find_config(path) is path
