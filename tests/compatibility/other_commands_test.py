import json

import pytest

from tests.compatibility.conftest import classifier_config


def test_all_metrics_are_printed_where_no_keys_are_given(allennlp, tmp_path, capsys):
    for run, metrics in {"b": {"accuracy": 0.5, "loss": 2}, "a": {"loss": 1, "zeros": 0.25}}.items():
        (tmp_path / run).mkdir()
        (tmp_path / run / "metrics.json").write_text(json.dumps(metrics))
    capsys.readouterr()
    allennlp("print-results", tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        "model_run, loss, zeros, accuracy",
        f"{tmp_path}/a/metrics.json, 1, 0.25, N/A",
        f"{tmp_path}/b/metrics.json, 2, N/A, 0.5",
    ]
    allennlp("print-results", tmp_path, "--keys", "zeros", "absent")
    assert capsys.readouterr().out.splitlines() == [
        "model_run, zeros, absent",
        f"{tmp_path}/a/metrics.json, 0.25, N/A",
        f"{tmp_path}/b/metrics.json, N/A, N/A",
    ]


def test_runs_without_readable_metrics_are_told(line, tmp_path):
    assert line("print-results", tmp_path / "absent").startswith(f"{tmp_path}/absent: no such folder.")
    assert line("print-results", tmp_path).startswith(f"{tmp_path}: no metrics.json in it or in a folder below.")
    metrics = tmp_path / "metrics.json"
    for content, message in [('{"loss": ', "Expecting value at character 9"), ("[1]", "must be a JSON object")]:
        metrics.write_text(content)
        assert line("print-results", tmp_path).startswith(f"{metrics}: {message}")


@pytest.mark.parametrize(
    "given, message",
    [
        (("--start-lr", -1), "--start-lr must be a finite number, above 0 (with --linear also 0), but is -1.0"),
        (("--start-lr", 0), "--start-lr must be a finite number, above 0 (with --linear also 0), but is 0.0"),
        (("--start-lr", "nan"), "--start-lr must be a finite number, above 0 (with --linear also 0), but is nan"),
        (("--end-lr", "inf"), "--end-lr must be a finite number, above --start-lr (1e-05), but is inf"),
        (("--start-lr", 1, "--end-lr", 0.5), "--end-lr must be a finite number, above --start-lr (1.0), but is 0.5"),
        (("--num-batches", 5), "--num-batches must be above 10, but is 5"),
    ],
)
def test_impossible_learning_rates_are_told(line, tmp_path, given, message):
    assert line("find-lr", classifier_config(tmp_path), "-s", tmp_path / "run", *given) == message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", [(), ("--linear", "--start-lr", 0)])
def test_learning_rates_are_gone_through(allennlp, tmp_path, given):
    allennlp("find-lr", classifier_config(tmp_path), "-s", tmp_path / "run", "--num-batches", 12, *given)
    assert (tmp_path / "run" / "lr-losses.png").stat().st_size > 0
