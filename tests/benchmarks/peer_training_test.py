"""The benchmark of training beside another toolkit runs from end to end: our side of it, with tiny sizes."""

import re
import subprocess
import sys

import pytest

from tests.conftest import PROJECT_ROOT, environment


@pytest.fixture
def run_benchmark(tmp_path):
    def run(*arguments):
        data = tmp_path / "train.tsv"
        data.write_text("".join(f"{'a b ' * (1 + i % 3)}\t{'c d e ' * (1 + i % 2)}\n" for i in range(12)))
        command = [sys.executable, "benchmarks/peer_training.py", "--train", data, *arguments]
        return subprocess.run(command, cwd=PROJECT_ROOT, env=environment(), capture_output=True, text=True)

    return run


def test_it_reports_our_speed_and_a_falling_loss(run_benchmark):
    sizes = ("--rounds", "2", "--batches", "3", "--batch-size", "4", "--embedding-dim", "6", "--hidden-dim", "8")
    process = run_benchmark(*sizes, "--learning-rate", "0.1", "--dropout", "0", "--layers", "2")
    assert process.returncode == 0, process.stderr
    # Six pairs of 3 words and six of 6, each with its end.
    assert "2 rounds of 3 batches of 4 pairs" in process.stdout
    assert "66 target tokens a round; 2 and 3 words" in process.stdout
    row = next(line for line in process.stdout.splitlines() if line.startswith("| regattn_allennlp "))
    *_, first, last = re.findall(r"[\d.]+", row)
    assert float(last) < float(first)


def test_it_says_what_is_missing(run_benchmark):
    process = run_benchmark("--batches", "4", "--batch-size", "4")
    assert process.returncode != 0
    assert "has 12 pairs, but 16 are needed" in process.stderr
    process = run_benchmark("--batches", "1", "--batch-size", "4", "--peer-python", "no/such/python")
    assert process.returncode != 0
    assert "no/such/python" in process.stderr
