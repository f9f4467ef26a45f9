"""Alignments against gold links by the `allennlp` command line."""

import json
from pathlib import Path

import pytest
from allennlp.common.checks import ConfigurationError

from tests.commands.sequence_pairs_test import SMALL
from tests.conftest import PROJECT_ROOT

INCLUDE = ("--include-package", "regattn_allennlp")
READER = {"type": "sequence_pairs", "gold_links": {"order": "target-source", "path": "{stem}_alignment.jsonl"}}
# Where there is one word to attend to, it is known what is attended to.
PAIRS = [("k", "q"), ("m", "m"), ("m", "k")]
SURE = [[[0, 0]], [[0, 0]], []]
KNOWN = {"alignment_error_rate": 1 - (2 + 2) / (3 + 2), "alignment_precision": 2 / 3, "alignment_recall": 1}


def write(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture(scope="module")
def folder(allennlp, tmp_path_factory) -> Path:
    """Data with links beside them, without, and a model that is validated on the first."""
    folder = tmp_path_factory.mktemp("links")
    for name in ("train", "dev", "test"):
        (folder / f"{name}.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS))
    for name in ("dev", "test"):
        write(folder / f"{name}_alignment.jsonl", [{"sure": sure} for sure in SURE])
    overrides = {
        **SMALL,
        "train_data_path": str(folder / "train.tsv"),
        "validation_data_path": str(folder / "dev.tsv"),
        "validation_dataset_reader": READER,
        "trainer.validation_metric": "-alignment_error_rate",
    }
    config = PROJECT_ROOT / "training_configs" / "g2p" / "exact.jsonnet"
    allennlp("train", config, "-s", folder / "run", "--overrides", json.dumps(overrides), *INCLUDE)
    return folder


def with_prefix(prefix: str, metrics: dict = KNOWN) -> dict:
    return {f"{prefix}{name}": value for name, value in metrics.items()}


def alignments_in(metrics: dict) -> dict:
    return {name: value for name, value in metrics.items() if "alignment_" in name}


def test_a_training_validates_and_evaluates_alignments(allennlp, folder, tmp_path):
    validated = json.loads((folder / "run" / "metrics.json").read_text())
    found = {name: value for name, value in alignments_in(validated).items() if name.startswith("best_")}
    expected = {**with_prefix("best_validation_"), **with_prefix("best_validation_posterior_")}
    assert found == pytest.approx(expected)
    assert "training_alignment_error_rate" not in validated
    allennlp("evaluate", folder / "run", folder / "test.tsv[:2]", "--output-file", tmp_path / "a.json", *INCLUDE)
    right = {**dict.fromkeys(KNOWN, 1.0), "alignment_error_rate": 0.0}
    expected = {**right, **with_prefix("posterior_", right)}
    assert alignments_in(json.loads((tmp_path / "a.json").read_text())) == expected


def test_data_without_links_are_evaluated_once_none_are_asked_for(allennlp, folder, tmp_path):
    with pytest.raises(ConfigurationError, match=r"train_alignment.jsonl\" could not be opened"):
        allennlp("evaluate", folder / "run", folder / "train.tsv", *INCLUDE)
    options = ("-o", json.dumps({"validation_dataset_reader.gold_links": None}), "--output-file", tmp_path / "a.json")
    allennlp("evaluate", folder / "run", folder / "train.tsv", *options, *INCLUDE)
    metrics = json.loads((tmp_path / "a.json").read_text())
    assert metrics["perplexity"] > 1 and not alignments_in(metrics)


def test_a_comparison_has_their_table_and_measures_anew_by_other_links(allennlp, folder, tmp_path):
    def compare() -> tuple[str, dict]:
        arguments = ("--test-data", folder / "test.tsv", "-s", tmp_path / "compared", *INCLUDE)
        allennlp("compare-attention", folder / "run", *arguments)
        (variant,) = json.loads((tmp_path / "compared" / "comparison.json").read_text())["variants"]
        return (tmp_path / "compared" / "comparison.md").read_text(), variant["runs"][0]["metrics"]

    text, metrics = compare()
    assert alignments_in(metrics) == pytest.approx({**KNOWN, **with_prefix("posterior_")})
    assert "| softmax gamma=1, exact | attention | 0.2000 | 0.6667 | 1.0000 |" in text
    assert "| softmax gamma=1, exact | posterior | 0.2000 | 0.6667 | 1.0000 |" in text
    write(folder / "test_alignment.jsonl", [{"sure": [[0, 0]]}] * 3)
    try:
        assert "| softmax gamma=1, exact | attention | 0.0000 | 1.0000 | 1.0000 |" in compare()[0]
    finally:
        write(folder / "test_alignment.jsonl", [{"sure": sure} for sure in SURE])


def test_pairs_without_labels_are_evaluated_by_their_links(allennlp, archive, tmp_path):
    pairs = zip(PAIRS, SURE, strict=True)
    records = [{"sentence1": first, "sentence2": second, "sure": sure} for (first, second), sure in pairs]
    data = write(tmp_path / "pairs.jsonl", records)
    reader = {
        "dataset_reader.has_labels": False,
        "dataset_reader.gold_links": {"order": "premise-hypothesis"},
        "model.alignment_error_rate": {"threshold": 1.0},
    }
    allennlp(
        "evaluate", archive, data, "-o", json.dumps(reader), "--output-file", tmp_path / "metrics.json", *INCLUDE
    )  # fmt: skip
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    expected = {**with_prefix("premise_to_hypothesis_"), **with_prefix("hypothesis_to_premise_")}
    assert alignments_in(metrics) == pytest.approx(expected)
    assert not {"accuracy", "loss"} & metrics.keys() and metrics["premise_to_hypothesis_zeros"] == 0
    # Without links nothing of them can be measured.
    with pytest.raises(ConfigurationError, match="no item says what is right for it"):
        allennlp("evaluate", archive, data, "-o", '{"dataset_reader.has_labels": false}', *INCLUDE)
