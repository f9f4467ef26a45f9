"""
What an attention, an alignment or a regularizer costs in training: an epoch of each of several models, side by side.
All models see each batch one after the other, in turn from another model on, so that they meet the same conditions on
the machine. Prints the seconds of an epoch's training steps, the ratio to the first model's, and the ratio with what
all spend alike on making the batches. The configs must read the same data in the same way.

    python benchmarks/epoch.py training_configs/snli/{softmax,sparsemax,fusedmax,oscarmax}.jsonnet \\
        --train snli_1.0_dev.jsonl
    python benchmarks/epoch.py training_configs/alignment/entailment.jsonnet --train snli_1.0_dev.jsonl \\
        --alignment-regularizer none --alignment-regularizer mmd
"""

import argparse
import copy
import itertools
import logging
import statistics
import time
from pathlib import Path

import torch
from allennlp.common import Params
from allennlp.common.util import import_module_and_submodules, prepare_environment
from allennlp.data import DataLoader, DatasetReader, Vocabulary
from allennlp.models import Model
from allennlp.training.optimizers import Optimizer

from regattn_allennlp.comparison.variants import make_variants

SHARED_BLOCKS = ("dataset_reader", "data_loader", "vocabulary")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", help="the first is what the others are compared with")
    parser.add_argument("--train", help="training data, as the dataset reader takes it (default: the first config's)")
    parser.add_argument("--epochs", type=int, default=3, help="measured ones, after one that is not (default: 3)")
    parser.add_argument(
        "--alignment-regularizer", action="append", default=[], help="a model of each, as `compare-attention` takes it"
    )
    parser.add_argument("--overrides", default="", help="change all configs, as in `allennlp train`: a JSON object")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    import_module_and_submodules("regattn_allennlp")

    variants = make_variants(
        arguments.configs, [], [], [0], arguments.overrides, Path(), arguments.alignment_regularizer
    )
    configs = {variant.name: Params(copy.deepcopy(variant.config)) for variant in variants}
    names = list(configs)
    first = configs[names[0]].duplicate()
    for name, config in configs.items():
        for block in SHARED_BLOCKS:
            if config.as_dict(quiet=True).get(block) != first.as_dict(quiet=True).get(block):
                parser.error(f'{name} and {names[0]} differ in "{block}"')
    prepare_environment(first)
    loader = DataLoader.from_params(
        first.pop("data_loader"),
        reader=DatasetReader.from_params(first.pop("dataset_reader")),
        data_path=arguments.train or first.pop("train_data_path"),
    )
    vocab = Vocabulary.from_params(first.pop("vocabulary", {}), instances=loader.iter_instances())
    loader.index_with(vocab)
    models, optimizers = {}, {}
    for name, config in configs.items():
        models[name] = Model.from_params(config.pop("model"), vocab=vocab).train()
        parameters = list(models[name].named_parameters())
        optimizers[name] = Optimizer.from_params(config["trainer"].pop("optimizer"), model_parameters=parameters)

    loading: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for epoch in range(1 + arguments.epochs):
        loading_this_epoch = 0.0
        this_epoch = dict.fromkeys(names, 0.0)
        batches = iter(loader)
        for number in itertools.count():
            start = time.perf_counter()
            batch = next(batches, None)
            loading_this_epoch += time.perf_counter() - start
            if batch is None:
                break
            first_one = number % len(names)
            for name in names[first_one:] + names[:first_one]:
                start = time.perf_counter()
                optimizers[name].zero_grad()
                models[name](**batch)["loss"].backward()
                optimizers[name].step()
                this_epoch[name] += time.perf_counter() - start
        if epoch > 0:  # the first compiles, and fills the cache
            loading.append(loading_this_epoch)
            for name in names:
                seconds[name].append(this_epoch[name])

    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, {arguments.epochs} x {number} batches")
    print(f"making the batches: {statistics.median(loading):.2f} s an epoch\n")
    print("| model | training steps (s) | / the first | / the first, with making the batches |")
    print("| --- | --- | --- | --- |")
    for name in names:
        steps = statistics.median(own / other for own, other in zip(seconds[name], seconds[names[0]], strict=True))
        whole = statistics.median(
            (own + load) / (other + load)
            for own, other, load in zip(seconds[name], seconds[names[0]], loading, strict=True)
        )
        print(f"| {name} | {statistics.median(seconds[name]):.2f} | {steps:.3f} | {whole:.3f} |")


if __name__ == "__main__":
    main()
