"""
Measures time and memory of the way from a file to batches: reading, vocabulary, the first batch, and one pass over all
batches, for growing numbers of pairs. The pairs are those of an SNLI file, repeated. Beside each other:

- the reader "entailment" with spaCy's tokens and the data loader "cached", at the first start (nothing is cached) and
  at the second (the tokens are);
- the reader "snli" of allennlp-models with tokens split at spaces and AllenNLP's data loader, if it is installed.

    python benchmarks/reading.py snli_1.0_train.jsonl --output output/reading

Each row of the table is a process of its own. Its memory is the peak that the operating system accounts to it, with
nothing subtracted; what was in use after the imports stands beside it.
"""

import argparse
import importlib.util
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

BATCH_SIZE = 64
PROJECT_ROOT = Path(__file__).parent.parent
CASES = {
    "first": "entailment, first start",
    "second": "entailment, second start",
    "allennlp-models": "snli of allennlp-models",
}


def write_pairs(source: Path, count: int, path: Path) -> None:
    """Writes so many pairs, those of the source with a gold label again and again."""
    with open(source, encoding="utf-8") as file:
        lines = [line.rstrip("\n") + "\n" for line in file if json.loads(line)["gold_label"] != "-"]
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(itertools.islice(itertools.cycle(lines), count))


def megabytes() -> float:
    """The peak so far of this process' resident memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def measure(case: str, path: Path, started: float) -> dict[str, float]:
    """
    Runs one case in this process, which was started at that time (of `time.time`).
    """
    from allennlp.data import Vocabulary
    from allennlp.data.samplers import BucketBatchSampler

    if case == "allennlp-models":
        from allennlp.data.data_loaders import MultiProcessDataLoader as Loader
        from allennlp.data.tokenizers import WhitespaceTokenizer
        from allennlp_models.pair_classification.dataset_readers.snli import SnliReader

        reader = SnliReader(tokenizer=WhitespaceTokenizer())
    else:
        from regattn_allennlp.data.data_loaders import CachedDataLoader as Loader
        from regattn_allennlp.data.dataset_readers import EntailmentDatasetReader

        reader = EntailmentDatasetReader()

    result = {"imports": time.time() - started, "megabytes_after_imports": megabytes()}
    last = time.time()

    def lap(name: str) -> None:
        nonlocal last
        result[name], last = time.time() - last, time.time()

    loader = Loader(reader, str(path), batch_sampler=BucketBatchSampler(BATCH_SIZE, ["premise", "hypothesis"]))
    lap("reading")
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    lap("vocabulary")
    batches = iter(loader)
    number_of_pairs = len(next(batches)["label"])
    lap("first batch")
    result["from start to first batch"] = time.time() - started
    number_of_pairs += sum(len(batch["label"]) for batch in batches)
    lap("pass")
    return {**result, "pairs": number_of_pairs, "megabytes": megabytes()}


def run(case: str, path: Path, cache: Path) -> dict[str, float]:
    result = subprocess.run(
        [sys.executable, __file__, str(path), "--case", case, "--started", repr(time.time())],
        env={
            **os.environ,
            "HF_DATASETS_CACHE": str(cache),
            "ALLENNLP_CACHE_ROOT": str(cache / "allennlp"),
            "PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")]),
        },
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        raise SystemExit(f"{CASES[case]}, {path}: the process ended with {result.returncode}\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a file of SNLI, .jsonl")
    parser.add_argument("--pairs", type=int, nargs="+", default=[10_000, 100_000, 550_000])
    parser.add_argument("--output", type=Path, help="a folder for the repeated pairs and a cache, emptied afterwards")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)  # for the processes that this one starts
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments.case, arguments.source, arguments.started)))
        return
    if arguments.output is None:
        parser.error("--output is missing: the folder for the repeated pairs and a cache")

    cases = list(CASES)
    if importlib.util.find_spec("allennlp_models") is None:
        print("allennlp-models is not installed: its reader is left out.\n")
        cases.remove("allennlp-models")
    print(
        "| pairs | reader | reading (s) | vocabulary (s) | first batch (s) | start to first batch (s) | pass (s) "
        "| peak memory (MB) | after imports (MB) |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        flush=True,
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    for count in arguments.pairs:
        path, cache = arguments.output / f"pairs{count}.jsonl", arguments.output / f"cache{count}"
        shutil.rmtree(cache, ignore_errors=True)
        write_pairs(arguments.source, count, path)
        for case in cases:
            result = run(case, path, cache)
            if result["pairs"] != count:
                raise SystemExit(f"{CASES[case]}: the batches held {result['pairs']} of {count} pairs")
            print(
                f"| {count:,} | {CASES[case]} | {result['reading']:.1f} | {result['vocabulary']:.1f} "
                f"| {result['first batch']:.1f} | {result['from start to first batch']:.1f} | {result['pass']:.1f} "
                f"| {result['megabytes']:.0f} | {result['megabytes_after_imports']:.0f} |",
                flush=True,
            )
        path.unlink()
        shutil.rmtree(cache)


if __name__ == "__main__":
    main()
