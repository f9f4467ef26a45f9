"""`allennlp compare-attention`: a second data set, attacks, and alignment regularizers."""

import json
import os
from pathlib import Path

import pytest
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.comparison.identities import Identities
from regattn_allennlp.data.sample_corpus import sample_pairs
from tests.commands.compare_attention_test import CONFIG, INCLUDE, comparison
from tests.conftest import PROJECT_ROOT, SMALL

G2P = PROJECT_ROOT / "training_configs" / "g2p" / "softmax.jsonnet"
# In the layout of SICK.
OTHER_DATA = """\
pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment
1\tA small dog is sleeping\tAn animal is asleep\t4.5\tENTAILMENT
2\tTwo women are singing\tThe women are silent\t3.6\tCONTRADICTION
3\tA chef is reading\tA woman is in the garden\t2\tNEUTRAL
"""


def command(folder: Path, *arguments, train: str | Path = SMALL["train_data_path"]) -> list:
    overrides = json.dumps({**SMALL, "trainer.num_epochs": 2, "train_data_path": str(train)})
    return ["compare-attention", CONFIG, "--seeds", 1, "-s", folder, "-o", overrides, *arguments, *INCLUDE]


def times(folder: Path) -> tuple[int, int]:
    """When the one archive, and when the one outcome was written."""
    (archive,) = folder.glob("trials/*/seed1/model/model.tar.gz")
    return archive.stat().st_mtime_ns, (archive.parent.parent / "outcome.json").stat().st_mtime_ns


def test_what_is_trained_can_be_evaluated_further_until_its_data_change(allennlp, tmp_path, capsys):
    folder, other, table = tmp_path / "out", tmp_path / "other.tsv", tmp_path / "synonyms.txt"
    other.write_text(OTHER_DATA)
    table.write_text("dog, hound\n")
    train = tmp_path / "train.jsonl"
    train.write_text("".join(f"{json.dumps(pair._asdict())}\n" for pair in sample_pairs("train")[:192]))
    allennlp(*command(folder, train=train))
    archive_written, outcome_written = times(folder)
    (plain,) = comparison(folder)["variants"][0]["runs"]
    assert comparison(folder)["out_of_domain"] is None and comparison(folder)["attacks"] == []

    synonym_swap = json.dumps({"type": "synonym-swap", "synonyms": str(table)})
    arguments = ["--out-of-domain", other, "--attack", synonym_swap, "--attack", "hotflip", "--attacked-items", 20]
    allennlp(*command(folder, *arguments, train=train))
    assert times(folder)[0] == archive_written and times(folder)[1] > outcome_written, "it was trained again"
    report = comparison(folder)
    (run,) = report["variants"][0]["runs"]
    assert plain["metrics"].items() <= run["metrics"].items()
    assert (report["out_of_domain"], report["num_attacked_items"]) == (str(other), 20)
    assert [attack["type"] for attack in report["attacks"]] == ["synonym-swap", "hotflip"]
    text = (folder / "comparison.md").read_text()
    assert "## Out of domain" in text and "hotflip: success" in text

    # As AllenNLP evaluates it.
    evaluated = tmp_path / "evaluated.json"
    allennlp("evaluate", folder / run["model"] / "model.tar.gz", other, "--output-file", evaluated, *INCLUDE)
    expected = json.loads(evaluated.read_text())
    assert run["metrics"]["out_of_domain_accuracy"] == pytest.approx(expected["accuracy"])
    assert run["metrics"]["out_of_domain_loss"] == pytest.approx(expected["loss"], abs=1e-5)
    outcome = json.loads(next(folder.glob("trials/*/seed1/outcome.json")).read_text())
    right = sum(outcome["item_scores"][:20])
    for name in ("synonym_swap", "hotflip"):
        success = run["metrics"][f"{name}_success"]
        assert run["metrics"][f"{name}_accuracy"] == pytest.approx(right * (1 - success) / 20)

    # The same is not measured again, though the file is a copy.
    before = times(folder)
    train.write_text(train.read_text())
    os.utime(train, (1, 1))
    allennlp(*command(folder, *arguments, train=train))
    assert times(folder) == before
    # With another table it would be.
    (identity,) = outcome["request"]["synonyms"]
    assert identity == Identities(folder).of_data(str(table))
    table.write_text("dog, hound\ncat, feline\n")
    assert identity != Identities(folder).of_data(str(table))

    # Of other data, the model is another.
    train.write_text(train.read_text().replace("neutral", "entailment"))
    capsys.readouterr()
    allennlp(*command(folder, train=train))
    assert times(folder)[0] > before[0]
    why = f"trained anew: {train} has changed"
    assert f"1 run is {why}" in capsys.readouterr().out
    assert why in next(folder.glob("trials/*/seed1/log.txt")).read_text()
    (again,) = comparison(folder)["variants"][0]["runs"]
    assert again["metrics"] != plain["metrics"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--out-of-domain", "no_such_file.jsonl"], "no_such_file.jsonl"),
        (["--out-of-domain", "sample:validation[:0]"], "selects none of the 3000 pairs"),
        (["--attack", "hotflap"], 'no attack "hotflap"'),
        (["--attack", "hotflip", "--attack", '{"type": "hotflip", "max_swaps": 1}'], "hotflip is given twice"),
        (["--attack", '{"type": "synonym-swap", "synonyms": "nowhere.txt"}'], 'synonyms "nowhere.txt" cannot be read'),
        (["--attack", "hotflip", "--attacked-items", 0], "--attacked-items must be 1 or more"),
        (["--alignment-regularizer", "none"], 'has no key "alignment_regularizer"'),
    ],
)
def test_a_mistake_is_named_before_anything_is_trained(allennlp, tmp_path, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        allennlp(*command(tmp_path / "out", *arguments))
    assert not (tmp_path / "out").exists()


def test_attacks_are_for_entailment(allennlp, tmp_path):
    with pytest.raises(ConfigurationError, match=r'--attack replaces .* not for the task "sequence_pairs"'):
        allennlp("compare-attention", G2P, "--attack", "hotflip", "-s", tmp_path / "out", *INCLUDE)
