"""
What an attention costs in training: an epoch of each of the four configs in training_configs/snli, side by side. All
four models see each batch of training pairs one after the other, in turn from another model on, so that they meet the
same conditions on the machine. Prints the seconds of an epoch's training steps, the ratio to softmax's, and the ratio
with what all spend alike on making the batches.

    python benchmarks/epoch.py snli_1.0_dev.jsonl
"""

import argparse
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

CONFIGS = Path(__file__).parent.parent / "training_configs" / "snli"
ATTENTIONS = ("softmax", "sparsemax", "fusedmax", "oscarmax")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", help="training pairs, as the dataset reader takes them")
    parser.add_argument("--epochs", type=int, default=3, help="measured ones, after one that is not (default: 3)")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    import_module_and_submodules("regattn_allennlp")

    configs = {name: Params.from_file(CONFIGS / f"{name}.jsonnet") for name in ATTENTIONS}
    first = configs["softmax"].duplicate()
    prepare_environment(first)
    loader = DataLoader.from_params(
        first.pop("data_loader"),
        reader=DatasetReader.from_params(first.pop("dataset_reader")),
        data_path=arguments.train,
    )
    vocab = Vocabulary.from_instances(loader.iter_instances())
    loader.index_with(vocab)
    models, optimizers = {}, {}
    for name, config in configs.items():
        models[name] = Model.from_params(config.pop("model"), vocab=vocab).train()
        parameters = list(models[name].named_parameters())
        optimizers[name] = Optimizer.from_params(config["trainer"].pop("optimizer"), model_parameters=parameters)

    loading: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in ATTENTIONS}
    for epoch in range(1 + arguments.epochs):
        loading_this_epoch = 0.0
        this_epoch = dict.fromkeys(ATTENTIONS, 0.0)
        batches = iter(loader)
        for number in itertools.count():
            start = time.perf_counter()
            batch = next(batches, None)
            loading_this_epoch += time.perf_counter() - start
            if batch is None:
                break
            first_one = number % len(ATTENTIONS)
            for name in ATTENTIONS[first_one:] + ATTENTIONS[:first_one]:
                start = time.perf_counter()
                optimizers[name].zero_grad()
                models[name](**batch)["loss"].backward()
                optimizers[name].step()
                this_epoch[name] += time.perf_counter() - start
        if epoch > 0:  # the first compiles, and fills the cache
            loading.append(loading_this_epoch)
            for name in ATTENTIONS:
                seconds[name].append(this_epoch[name])

    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, {arguments.epochs} x {number} batches")
    print(f"making the batches: {statistics.median(loading):.2f} s an epoch\n")
    print("| attention | training steps (s) | / softmax | / softmax, with making the batches |")
    print("| --- | --- | --- | --- |")
    for name in ATTENTIONS:
        steps = statistics.median(own / other for own, other in zip(seconds[name], seconds["softmax"], strict=True))
        whole = statistics.median(
            (own + load) / (other + load)
            for own, other, load in zip(seconds[name], seconds["softmax"], loading, strict=True)
        )
        print(f"| {name} | {statistics.median(seconds[name]):.2f} | {steps:.3f} | {whole:.3f} |")


if __name__ == "__main__":
    main()
