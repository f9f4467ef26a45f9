"""
Trains the four configs of a folder of training_configs with several seeds each, by the `allennlp` command, and prints
a table: validation accuracy, mean and standard deviation over the seeds, seconds per epoch (training and validation),
and the fraction of attention weights that are exactly zero on the validation pairs.

    python benchmarks/entailment.py --train train.jsonl --validation validation.jsonl --output output/snli

A run that is finished already in the output folder is not repeated.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

CONFIGS = Path(__file__).parent.parent / "training_configs"
ATTENTIONS = ("softmax", "sparsemax", "fusedmax", "oscarmax")


def parse_duration(text: str) -> float:
    """Seconds of "0:01:23.456"."""
    hours, minutes, seconds = text.split(":")
    return timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds)).total_seconds()


def train(arguments: argparse.Namespace, attention: str, seed: int, num_threads: int) -> dict:
    folder = arguments.output / attention / f"seed{seed}"
    if not (folder / "model.tar.gz").exists():
        overrides: dict = {"random_seed": seed, "numpy_seed": seed, "pytorch_seed": seed}
        if arguments.train:
            overrides["train_data_path"] = str(arguments.train)
        if arguments.validation:
            overrides["validation_data_path"] = str(arguments.validation)
        config = CONFIGS / arguments.configs / f"{attention}.jsonnet"
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder.with_suffix(".log"), "w") as log:
            subprocess.run(
                [
                    sys.executable, "-m", "allennlp", "train", str(config),
                    "--serialization-dir", str(folder), "--force", "--file-friendly-logging",
                    "--overrides", json.dumps(overrides), "--include-package", "regattn_allennlp",
                ],
                check=True, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": str(num_threads)},
            )  # fmt: skip
    metrics = json.loads((folder / "metrics.json").read_text())
    zeros = [metrics[f"best_validation_{way}_zeros"] for way in ("premise_to_hypothesis", "hypothesis_to_premise")]
    result = {
        "accuracy": metrics["best_validation_accuracy"],
        "seconds": parse_duration(metrics["training_duration"]) / (metrics["epoch"] + 1),
        "zeros": statistics.mean(zeros),
    }
    print(f"{attention}, seed {seed}: {result}", file=sys.stderr, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", default="snli", help="a folder of training_configs (default: snli)")
    parser.add_argument("--train", type=Path, help="training pairs (default: the config's)")
    parser.add_argument("--validation", type=Path, help="validation pairs (default: the config's)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, which share the cores (default: 1)")
    parser.add_argument("--output", type=Path, required=True, help="where the runs are kept")
    arguments = parser.parse_args()

    num_threads = max(1, (os.cpu_count() or 1) // arguments.workers)
    # Seed by seed, so that all attentions meet the same conditions on the machine.
    runs = [(attention, seed) for seed in arguments.seeds for attention in ATTENTIONS]
    with ThreadPoolExecutor(arguments.workers) as executor:
        results = list(executor.map(lambda run: train(arguments, *run, num_threads), runs))

    print("| attention | accuracy, each seed | mean | standard deviation | seconds per epoch | weights that are 0 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for attention in ATTENTIONS:
        own = [result for (name, _), result in zip(runs, results, strict=True) if name == attention]
        accuracies = [result["accuracy"] for result in own]
        spread = statistics.stdev(accuracies) if len(own) > 1 else 0.0
        print(
            f"| {attention} | {', '.join(f'{accuracy:.4f}' for accuracy in accuracies)} "
            f"| {statistics.mean(accuracies):.4f} | {spread:.4f} "
            f"| {statistics.mean(result['seconds'] for result in own):.1f} "
            f"| {statistics.mean(result['zeros'] for result in own):.3f} |"
        )


if __name__ == "__main__":
    main()
