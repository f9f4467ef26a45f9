"""The benchmark for GPUs runs from end to end, without one and with tiny problems."""

import argparse
import importlib.util
import json
import subprocess
import sys

import pytest

from tests.conftest import PROJECT_ROOT, environment

pytest.importorskip("triton")


@pytest.fixture(scope="module")
def run_benchmark(tmp_path_factory):
    def run(*arguments):
        folder = tmp_path_factory.mktemp("benchmark")
        command = [sys.executable, "benchmarks/gpu.py", folder, "--device", "cpu", "--tiny", *arguments]
        process = subprocess.run(command, cwd=PROJECT_ROOT, env=environment(), capture_output=True, text=True)
        return process, (folder / "gpu.md").read_text(), json.loads((folder / "gpu.json").read_text())

    return run


def test_every_part_reports(run_benchmark):
    process, page, results = run_benchmark()
    assert process.returncode == 0, process.stderr
    parts = results["parts"]
    assert [title for title in parts if "skipped" in parts[title]] == ["Time on the device", "Memory", "CUDA graphs"]
    assert page.count("Skipped: needs CUDA") == 3
    assert all(f"### {title}" in page for title in parts)
    assert not any("error" in found for found in parts.values())
    assert max(map(max, parts["Exactness"].values())) < 1e-6
    for times in parts["Time"].values():
        assert times.keys() >= {"torch.softmax", "fusedmax", "entmax 1.5", "entmax, learned alpha"}
    assert {"torch.softmax, padded", "fusedmax, packed"} <= parts["Packed rows"].keys()
    for kind in ("ms", "/ torch.softmax"):  # a table of all shapes
        rows = page.partition(f"| {kind}, float32 | torch.softmax |")[2].partition("\n\n")[0]
        assert "| 6 x 5 |" in rows and "| 3 x 20 |" in rows
    assert "torch.softmax |" in page and results["torch"] in page


def test_a_part_that_fails_is_recorded_and_the_others_go_on(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(PROJECT_ROOT / "benchmarks"))
    path = PROJECT_ROOT / "benchmarks" / "gpu.py"
    specification = importlib.util.spec_from_file_location("gpu_benchmark", path)
    benchmark = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(benchmark)
    arguments = argparse.Namespace(device="cpu", tiny=True, jobs=1, out=tmp_path, seconds=60)
    run = benchmark.Run(arguments)

    def failing(run, found):
        yield "a line"
        raise RuntimeError("first line\nsecond line")

    def working(run, found):
        found["number"] = 1
        yield "another line"

    run.do("First", failing, False)
    run.do("Second", working, False)
    assert run.failed()
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert parts == {"First": {"error": "RuntimeError: first line"}, "Second": {"number": 1}}
    page = (tmp_path / "gpu.md").read_text()
    assert page.index("a line") < page.index("Error: RuntimeError: first line") < page.index("another line")


def test_without_time_everything_is_skipped(run_benchmark):
    process, page, results = run_benchmark("--seconds", "0")
    assert process.returncode == 0, process.stderr
    assert all("skipped" in found for found in results["parts"].values())
    assert "Skipped: no time was left" in page
