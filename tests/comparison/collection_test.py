"""What a report holds: runs of earlier commands beside those that are named."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from regattn_allennlp.comparison.collection import Collection, collect
from regattn_allennlp.comparison.identities import Identities
from regattn_allennlp.comparison.trial_files import FORMAT
from regattn_allennlp.comparison.variants import Trial, Variant

EVALUATION: dict[str, Any] = {
    "test_data": {"path": "sample:validation"},
    "out_of_domain": {"path": "other"},
    "batch_size": 64,
    "num_faithfulness_items": 10,
    "attacks": [{"type": "hotflip"}],
    "num_attacked_items": 5,
    "synonyms": [],
}
METRICS = {"accuracy": 0.5, "out_of_domain_accuracy": 0.4, "hotflip_success": 0.3, "comprehensiveness": 0.2}


def config(attention: str, seed: int, train: str, num_epochs: int) -> dict[str, Any]:
    return {
        "random_seed": seed, "numpy_seed": seed, "pytorch_seed": seed,
        "train_data_path": train, "trainer": {"num_epochs": num_epochs}, "model": {"attention": {"type": attention}},
    }  # fmt: skip


class Folder:
    """A comparison's folder, with trials that are over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.train = path.parent / "train.jsonl"
        self.train.write_text("pairs")

    def add(
        self, attention: str, seed: int = 1, train: str = "", num_epochs: int = 2, metrics: Any = (), **evaluation: Any
    ) -> Trial:
        content = config(attention, seed, train or str(self.train), num_epochs)
        trial = Trial(attention, seed, self.path / "trials" / f"{attention}{num_epochs}{train}" / f"{seed}", content)
        outcome = {
            "request": {**self.request(trial), **evaluation},
            "curve": [], "metrics": {**METRICS, **dict(metrics)},
            "compared_metrics": ["accuracy"], "attention_directions": ["a_to_b"],
            "item_scores": [1.0], "items": "the same", "beside_others": None, "item_facts": {},
            "item_probabilities": {},
        }  # fmt: skip
        trial.folder.mkdir(parents=True)
        (trial.folder / "outcome.json").write_text(json.dumps(outcome))
        return trial

    def request(self, trial: Trial) -> dict[str, Any]:
        found = Identities(self.path)
        request = {
            "format": FORMAT, "source": "a.jsonnet", "config": trial.config, "archive": None,
            "training": found.of_training(trial.config), "training_data": found.of_training_data(trial.config),
            **EVALUATION, "gold_links": found.of_gold_links(trial.config, EVALUATION["test_data"]["path"]),
            "include_package": [], "cuda_device": None,
        }  # fmt: skip
        return copy.deepcopy(request)

    def collect(self, *named: Trial) -> Collection:
        variants = [Variant(trial.variant, "a.jsonnet", trial.config, [trial]) for trial in named]
        requests = {trial.folder: self.request(trial) for trial in named}
        return collect(variants, requests, EVALUATION, self.path, Identities(self.path))


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path / "comparison")


def seeds(collection: Collection) -> dict[str, list[int]]:
    return {result.variant.name: [run.seed for run in result.runs] for result in collection.results}


def test_what_is_named_comes_first_and_nothing_is_forgotten(folder):
    folder.add("fusedmax")
    named = folder.add("softmax")
    folder.add("softmax", seed=2)
    folder.add("softmax", num_epochs=3)
    assert seeds(folder.collect(named)) == {
        "softmax (trainer.num_epochs=2)": [1, 2], "fusedmax": [1], "softmax (trainer.num_epochs=3)": [1],
    }  # fmt: skip
    assert folder.collect(named).left_out == {}


def test_runs_of_other_data_are_left_out_and_counted(folder):
    named = folder.add("softmax")
    folder.add("fusedmax", test_data={"path": "sample:train"})
    folder.add("oscarmax", train="sample:train")
    folder.add("sparsemax", format=FORMAT - 1)
    found = folder.collect(named)
    assert seeds(found) == {"softmax": [1]}
    assert found.left_out == {
        "of other test data": 1, "of other training data": 1, "of another version of regattn_allennlp": 1,
    }  # fmt: skip


def test_what_was_trained_before_its_data_changed_is_left_out(folder):
    folder.add("softmax")
    folder.train.write_text("other pairs")
    assert folder.collect(folder.add("fusedmax")).left_out == {
        "whose training data or other files have changed since": 1
    }


def test_numbers_of_other_measurements_are_not_compared(folder):
    named = folder.add("softmax")
    folder.add("fusedmax", out_of_domain={"path": "third"})
    folder.add("oscarmax", num_attacked_items=7)
    folder.add("sparsemax", num_faithfulness_items=0)
    metrics = {result.variant.name: set(result.runs[0].metrics) for result in folder.collect(named).results}
    assert metrics == {
        "softmax": set(METRICS),
        "fusedmax": METRICS.keys() - {"out_of_domain_accuracy"},
        "oscarmax": METRICS.keys() - {"hotflip_success"},
        "sparsemax": METRICS.keys() - {"comprehensiveness"},
    }


def test_alignments_by_other_gold_links_are_not_compared(folder):
    named = folder.add("softmax")
    others = {"path": "links", "sha256": "0"}
    folder.add("fusedmax", gold_links=others, metrics={"posterior_alignment_error_rate": 0.1})
    folder.add("sparsemax", metrics={"posterior_alignment_error_rate": 0.1})
    metrics = {result.variant.name: set(result.runs[0].metrics) for result in folder.collect(named).results}
    assert metrics == {
        "softmax": set(METRICS),
        "fusedmax": set(METRICS),
        "sparsemax": METRICS.keys() | {"posterior_alignment_error_rate"},
    }
