"""The command `evaluate`, with an archive whose data loader has a batch sampler."""

import json

import pytest

from tests.compatibility.conftest import INCLUDE


def test_the_metrics_are_printed(allennlp, archive, tmp_path, capsys):
    allennlp("evaluate", archive, "sample:validation[:32]", "--output-file", tmp_path / "out.json", *INCLUDE)
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out.json").read_text()) and 0 < printed["accuracy"] < 1

    allennlp("evaluate", archive, "sample:validation[:32],sample:validation[32:64]", *INCLUDE)
    of_both = json.loads(capsys.readouterr().out)
    assert of_both["sample:validation[:32]_accuracy"] == printed["accuracy"]
    assert of_both.keys() >= {"sample:validation[32:64]_accuracy", "sample:validation[32:64]_loss"}


@pytest.mark.parametrize(
    "sampler", [None, {"type": "max_tokens_sampler", "max_tokens": 1000, "sorting_keys": ["premise"]}], ids=str
)
def test_the_batch_size_is_that_of_a_batch_sampler(allennlp, archive, tmp_path, sampler):
    overrides = {} if sampler is None else {"data_loader.batch_sampler": sampler}
    allennlp(
        "evaluate", archive, "sample:validation[:12]", "--batch-size", 5, "--overrides", json.dumps(overrides),
        "--predictions-output-file", tmp_path / "out.jsonl", *INCLUDE,
    )  # fmt: skip
    batches = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted(len(batch["label"]) for batch in batches) == [2, 5, 5]
