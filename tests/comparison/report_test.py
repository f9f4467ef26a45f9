import csv
import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from regattn_allennlp.comparison import report as report_module
from regattn_allennlp.comparison.report import Failure, Run, VariantResults, sweeps, write_report
from regattn_allennlp.comparison.variants import Variant


@pytest.fixture(autouse=True)
def pictures_of_one_kind(monkeypatch):
    """Drawing takes most of the time; that there are others, the command's tests see."""
    monkeypatch.setattr(report_module, "PICTURE_SUFFIXES", (".png",))


CORRECT = {
    "softmax": [[True, True, False, True, False, True], [True, True, True, True, False, False]],
    "fusedmax lam=0.1": [[False, True, False, False, False, True]],
    "other items": [[True] * 6],
}


def results() -> list[VariantResults]:
    return [
        VariantResults(
            Variant(name, "config.jsonnet", {"model": {"attention": {"type": name.split()[0]}}}, []),
            [
                Run(
                    seed=seed,
                    model=f"trials/{name}/{seed}",
                    metrics={
                        "accuracy": float(np.mean(correct)), "loss": 1.0 + seed, "zeros": 0.25 * seed,
                        "premise_to_hypothesis_zeros": 0.5,
                    },
                    curve=[{"epoch": 0, "training_loss": 1.0, "validation_accuracy": 0.5}],
                    compared_metrics=["accuracy"],
                    attention_directions=["premise_to_hypothesis"],
                    item_scores=[float(right) for right in correct],
                    items=name if name == "other items" else "the same",
                )
                for seed, correct in enumerate(runs, 1)
            ],
        )
        for name, runs in CORRECT.items()
    ]  # fmt: skip


def test_json_has_means_deviations_and_differences(tmp_path):
    failures = [Failure("oscarmax", 1, "ValueError: a | b\nand more", "log.txt")]
    report = write_report(tmp_path, "test.jsonl", results(), failures)
    assert json.loads((tmp_path / "comparison.json").read_text()) == json.loads(json.dumps(report))
    softmax, fusedmax, _ = report["variants"]
    assert softmax["summary"]["accuracy"] == pytest.approx({"mean": 4 / 6, "standard_deviation": 0.0, "runs": 2})
    assert softmax["summary"]["loss"] == pytest.approx({"mean": 2.5, "standard_deviation": 0.5**0.5, "runs": 2})
    assert fusedmax["summary"]["accuracy"] == pytest.approx({"mean": 1 / 3, "standard_deviation": None, "runs": 1})
    assert report["num_items"] == 6
    tested, *untested = report["differences"]
    assert [tested["first"], tested["second"]] == ["softmax", "fusedmax lam=0.1"]
    assert tested["difference"] == pytest.approx(1 / 3)
    # Once more, by drawing signs: the differences of the seed that both have are 1, 0, 0, 1, 0, 0.
    drawn = stats.permutation_test(
        ([1, 0, 0, 1, 0, 0], [0] * 6), lambda a, b: np.mean(a) - np.mean(b), permutation_type="samples"
    )
    assert tested["p_value"] == tested["p_value_holm"] == pytest.approx(drawn.pvalue)
    assert len(untested) == 2 and not any("p_value" in difference for difference in untested)


def test_csv_has_a_row_for_each_variant(tmp_path):
    write_report(tmp_path, "test.jsonl", results(), [])
    with open(tmp_path / "comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == list(CORRECT)
    assert [float(row["accuracy"]) for row in rows] == pytest.approx([4 / 6, 1 / 3, 1.0])
    assert [row["loss_standard_deviation"] != "" for row in rows] == [True, False, False]
    assert [row["seeds"] for row in rows] == ["1 2", "1", "1"]


def test_markdown_has_tables_that_hold(tmp_path):
    failures = [Failure("oscarmax", 1, "ValueError: a | b\nand more", "log.txt")]
    write_report(tmp_path, "test.jsonl", results(), failures)
    text = (tmp_path / "comparison.md").read_text()
    assert "| softmax | 2 | 0.6667 ± 0.0000 | 2.5000 ± 0.7071 | 0.375 ± 0.177 |" in text
    assert "| oscarmax | 1 | ValueError: a \\| b and more | log.txt |" in text
    assert "their test items differ" in text
    for picture in ("accuracy.png", "accuracy_against_sparsity.png", "training_curves.png"):
        assert f"]({picture})" in text and (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_alignments_have_a_table(tmp_path):
    assert "## Alignment" not in write_and_read(tmp_path, results())
    aligned = results()
    for result in aligned[:2]:
        for run in result.runs:
            for number, name in enumerate(("error_rate", "precision", "recall")):
                run.metrics[f"alignment_{name}"] = 0.1 * (number + run.seed)
                run.metrics[f"premise_to_hypothesis_alignment_{name}"] = 0.5
    text = write_and_read(tmp_path, aligned)
    assert "| variant | of | error rate | precision | recall |" in text
    assert "| softmax | attention | 0.1500 ± 0.0707 | 0.2500 ± 0.0707 | 0.3500 ± 0.0707 |" in text
    assert "| fusedmax lam=0.1 | premise to hypothesis | 0.5000 | 0.5000 | 0.5000 |" in text
    # Of a variant without them there is no row in this table.
    assert "| other items | attention |" not in text


def test_items_are_told_to_be_scored_by_what_an_error_rate_lacks_to_1(tmp_path):
    assert "Each test item's accuracy, from 0 to 1" in write_and_read(tmp_path, results())
    by_errors = [
        dataclasses.replace(
            result,
            runs=[
                dataclasses.replace(
                    run,
                    compared_metrics=["phoneme_error_rate"],
                    metrics={**run.metrics, "phoneme_error_rate": 0.5},
                )
                for run in result.runs
            ],
        )
        for result in results()
    ]
    assert "Each test item's 1 - phoneme_error_rate, from 0 to 1" in write_and_read(tmp_path, by_errors)


def write_and_read(folder, variants) -> str:
    write_report(folder, "test.jsonl", variants, [])
    return (folder / "comparison.md").read_text()


def test_a_report_of_failures_alone(tmp_path):
    nothing = [VariantResults(result.variant, []) for result in results()]
    report = write_report(tmp_path, "test.jsonl", nothing, [Failure("softmax", 1, "no", "log.txt")])
    assert report["variants"] == report["differences"] == [] and len(report["failures"]) == 1
    text = (tmp_path / "comparison.md").read_text()
    assert "| softmax | 1 | no | log.txt |" in text and "No run has results." in text and "## Attention" not in text


def test_the_metrics_are_those_that_the_models_are_compared_by(tmp_path):
    random = np.random.default_rng(0)
    compared = [
        VariantResults(
            Variant(
                f"softmax, {alignment}", "config.jsonnet",
                {"model": {"attention": {"type": "softmax"}, "latent_alignment": {"type": alignment}}}, [],
            ),
            [
                Run(
                    seed=1, model="model",
                    metrics={
                        "bleu": 30.123 + index, "perplexity": 6.5 - index, "zeros": 0.0, "target_to_source_zeros": 0.0,
                        "seconds_per_epoch": 20.0 * (1 + index),
                    },
                    curve=[{"epoch": 0, "training_loss": 1.0, "validation_bleu": 20.0}],
                    compared_metrics=["bleu", "perplexity"],
                    attention_directions=["target_to_source"],
                    item_scores=random.random(50).tolist(),
                    items="the same",
                )
            ],
        )
        for index, alignment in enumerate(["soft", "exact"])
    ]  # fmt: skip
    report = write_report(tmp_path, "test.tsv", compared, [])
    text = (tmp_path / "comparison.md").read_text()
    assert "| variant | runs | bleu | perplexity | weights that are 0 | seconds per epoch | time ratio |" in text
    assert "| softmax, exact | 1 | 31.12 | 5.5000 | 0.000 | 40.0 | 2.00 |" in text
    assert "| softmax, soft | target to source | 0.000 |" in text and "premise" not in text and "accuracy" not in text
    assert "Each test item's bleu, from 0 to 1" in text and "of 9999 draws of the signs" in text
    (difference,) = report["differences"]
    assert not difference["exact"]
    scores = [np.mean(result.runs[0].item_scores) for result in compared]
    assert difference["difference"] == pytest.approx(scores[0] - scores[1])
    assert (tmp_path / "bleu.png").exists() and (tmp_path / "bleu_against_sparsity.png").exists()
    with open(tmp_path / "comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [json.loads(row["latent_alignment"])["type"] for row in rows] == ["soft", "exact"]
    assert [float(row["seconds_per_epoch_ratio"]) for row in rows] == [1, 2]


def test_further_numbers_have_tables_of_their_own(tmp_path):
    measured = results()[:2]
    for number, result in enumerate(measured):
        for run in result.runs:
            run.metrics.update({
                "negative_log_likelihood": 0.5, "expected_calibration_error": 0.125, "pavpu": 0.75,
                "out_of_domain_accuracy": 0.25 + number, "out_of_domain_loss": 2.0, "out_of_domain_pavpu": 0.375,
                "synonym_swap_accuracy": 0.3, "hotflip_accuracy": 0.1, "hotflip_success": 0.9,
            })  # fmt: skip
    measured[0].runs[0].metrics.update({"synonym_swap_success": 0.2, "synonym_swap_changed_words": 1.5})
    attacks = [{"type": "synonym-swap"}, {"type": "hotflip", "max_swaps": 1}]
    report = write_report(tmp_path, "test.jsonl", measured, [], "other.tsv", attacks, 50)
    assert (report["out_of_domain"], report["attacks"], report["num_attacked_items"]) == ("other.tsv", attacks, 50)
    text = (tmp_path / "comparison.md").read_text()
    main, rest = text.split("## Calibration and uncertainty")
    calibration, rest = rest.split("## Out of domain")
    out_of_domain, robustness = rest.split("## Robustness")
    assert "ECE" not in main and "synonym" not in main
    assert "| variant | NLL (nats) | ECE | PAvPU |" in calibration
    assert "| softmax | 0.5000 ± 0.0000 | 0.1250 ± 0.0000 | 0.7500 ± 0.0000 |" in calibration
    # No columns for what was not measured.
    assert "`other.tsv`" in out_of_domain and "| variant | accuracy | loss (nats) | PAvPU |" in out_of_domain
    assert "| fusedmax lam=0.1 | 1.2500 | 2.0000 | 0.3750 |" in out_of_domain
    assert "first 50 items" in robustness
    headings = "| variant | synonym swap: accuracy | synonym swap: success | synonym swap: words changed "
    assert headings + "| hotflip: accuracy | hotflip: success |" in robustness
    assert "| fusedmax lam=0.1 | 0.3000 | - | - | 0.1000 | 0.9000 |" in robustness
    with open(tmp_path / "comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["out_of_domain_accuracy"]) for row in rows] == [0.25, 1.25]
    assert [row["synonym_swap_success"] for row in rows] == ["0.2", ""]


def test_means_over_other_seeds_are_marked_and_pairs_are_compared_by_common_ones(tmp_path):
    softmax, fusedmax, _ = results()
    report = write_report(tmp_path, "test.jsonl", [softmax, fusedmax], [])
    assert [variant["missing_seeds"] for variant in report["variants"]] == [[], [2]]
    text = (tmp_path / "comparison.md").read_text()
    assert "| fusedmax lam=0.1 | 1 † | 0.3333 † |" in text and "| softmax | 2 | 0.6667 ± 0.0000 |" in text
    assert "†: the means are not over the same seeds: fusedmax lam=0.1 lacks seed 2." in text
    (difference,) = report["differences"]
    assert difference["seeds"] == [1] and difference["leaves_out_runs"]
    assert "(softmax and fusedmax lam=0.1 by seed 1)" in text


def test_rough_seconds_are_marked_and_what_is_left_out_is_told(tmp_path):
    softmax, fusedmax, _ = results()
    for run in (*softmax.runs, *fusedmax.runs):
        run.metrics["seconds_per_epoch"] = 2.0
    alone = VariantResults(fusedmax.variant, [dataclasses.replace(run, beside_others=True) for run in fusedmax.runs])
    left_out = {"of other test data": 1, "of other training data": 2}
    report = write_report(tmp_path, "test.jsonl", [softmax, alone], [], left_out=left_out)
    assert report["left_out"] == left_out
    text = (tmp_path / "comparison.md").read_text()
    assert "| 2.0 ± 0.0 | 1.00 |" in text and "| 2.0 ‡ | 1.00 ‡ |" in text and "‡: other trainings ran" in text
    assert "Left out, of earlier commands: 1 run of other test data, 2 runs of other training data." in text


def test_scores_by_kind_of_item(tmp_path):
    facts = {
        "label": ["yes", "no", "yes", "no", "yes", "no"], "length": [3, 5, 4, 9, 6, 7],
        "has_unknown": [False, False, True, False, False, False],
    }  # fmt: skip
    compared = [
        VariantResults(result.variant, [dataclasses.replace(run, item_facts=facts) for run in result.runs])
        for result in results()
    ]
    report = write_report(tmp_path, "test.jsonl", compared, [])
    kinds = {(kind["by"], kind["kind"]): kind for kind in report["kinds_of_items"]}
    assert {kind: found["items"] for kind, found in kinds.items()} == {
        ("label", "no"): 3, ("label", "yes"): 3, ("length", "3 to 4 words"): 2, ("length", "5 to 6 words"): 2,
        ("length", "7 to 9 words"): 2, ("unknown words", "none"): 5, ("unknown words", "some"): 1,
    }  # fmt: skip
    # Of softmax's two runs, by hand.
    assert kinds["label", "yes"]["scores"]["softmax"]["mean"] == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert kinds["length", "3 to 4 words"]["scores"]["softmax"]["mean"] == pytest.approx((1 / 2 + 2 / 2) / 2)
    assert kinds["unknown words", "some"]["scores"]["fusedmax lam=0.1"]["mean"] == 0
    assert all("other items" not in kind["scores"] for kind in kinds.values())
    text = (tmp_path / "comparison.md").read_text()
    assert "| accuracy by unknown words | none (5) | some (1) |" in text and "| fusedmax lam=0.1 | 0.4000 |" in text


def test_numbers_that_alone_differ_make_a_sweep():
    def variant(name: str, **block) -> Variant:
        config = {"model": {"attention": {"type": name.split()[0], **block}}, "random_seed": len(name)}
        return Variant(name, "config.jsonnet", config, [])

    variants = [
        variant("fusedmax lam=1", lam=1), variant("softmax"), variant("fusedmax lam=0.1", lam=0.1),
        variant("fusedmax lam=1 gamma=2", lam=1, gamma=2), variant("oscarmax lam=1", lam=1),
        variant("fusedmax lam=1 gamma=3", lam=1, gamma=3),
    ]  # fmt: skip
    assert sweeps(variants) == {
        "lam": {"fusedmax": [(0.1, 2), (1, 0)]},
        "gamma": {"fusedmax lam=1": [(2, 3), (3, 5)]},
    }


def test_without_further_numbers_there_are_no_further_tables(tmp_path):
    write_report(tmp_path, "test.jsonl", results(), [])
    text = (tmp_path / "comparison.md").read_text()
    assert not any(heading in text for heading in ("Calibration", "Out of domain", "Robustness"))


def test_the_alignment_regularizer_is_kept(tmp_path):
    first, second, _ = results()
    second.variant.config["model"]["encoder"] = {"alignment_regularizer": {"type": "mmd", "weight": 0.1}}
    report = write_report(tmp_path, "test.jsonl", [first, second], [])
    assert [variant["alignment_regularizer"] for variant in report["variants"]] == [
        None,
        {"type": "mmd", "weight": 0.1},
    ]
    with open(tmp_path / "comparison.csv", newline="") as file:
        blocks = [row["alignment_regularizer"] for row in csv.DictReader(file)]
    assert blocks == ["", '{"type": "mmd", "weight": 0.1}']
