"""
How fast `attentional_seq2seq` trains beside JoeyNMT's recurrent model with the attention of Luong et al. 2015: target
tokens a second of whole training steps (forward, backward, clipping, Adam). Both have the same sizes and
vocabularies and see the same sentences in the same batches, made before; each is trained by its own toolkit's code,
in a process of its own. They take turns, one round through the batches each; never do both compute.

JoeyNMT has to be installed, in an environment of its own if you like (`pip install joeynmt==2.3.0`). Without
`--peer-python` ours is measured alone. The training data has a source, a tab and a target on each line, with spaces
between the words.

    python benchmarks/peer_training.py --train train.tsv --peer-python path/to/joeynmt/environment/bin/python

Prints of each the number of parameters, the medians over the rounds of the target tokens a second and a second of the
process's CPU time, the same of its fastest round, and the loss of the first and the last round; and the medians of
the rounds' ratios. The dropout is at each toolkit's own places. In both the sources end with an end symbol.
"""

import argparse
import json
import logging
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

OURS, PEER = "regattn_allennlp", "JoeyNMT"

Pair = tuple[list[str], list[str]]


class Problem(NamedTuple):
    """The words of each language, the most frequent ones first, and the pairs of each batch."""

    source_words: list[str]
    target_words: list[str]
    batches: list[list[Pair]]


class Trainee(NamedTuple):
    """A model with its batches: `train` goes through them once and gives their mean loss."""

    version: str
    model: torch.nn.Module
    train: Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="the data: source, tab, target")
    parser.add_argument("--peer-python", help="the Python of an environment that has JoeyNMT")
    parser.add_argument("--rounds", type=int, default=11, help="measured ones, after one that is not (default: 11)")
    parser.add_argument("--batches", type=int, default=20, help="of a round (default: 20)")
    parser.add_argument("--batch-size", type=int, default=64, help="pairs (default: 64)")
    parser.add_argument("--by-length", action="store_true", help="batches of pairs of like lengths, not of any")
    parser.add_argument("--min-count", type=int, default=2, help="of a word in the vocabularies (default: 2)")
    parser.add_argument("--embedding-dim", type=int, default=256, help="of both languages (default: 256)")
    parser.add_argument(
        "--hidden-dim", type=int, default=256, help="of the LSTM decoder and of the encoder's both directions"
    )
    parser.add_argument("--layers", type=int, default=1, help="of the encoder and of the decoder (default: 1)")
    parser.add_argument("--no-input-feeding", action="store_true", help="as if each step knew nothing of attention")
    parser.add_argument("--dropout", type=float, default=0.3, help="(default: 0.3)")
    parser.add_argument("--label-smoothing", type=float, default=0.0, help="(default: 0)")
    parser.add_argument("--learning-rate", type=float, default=0.001, help="Adam's (default: 0.001)")
    parser.add_argument("--clip-norm", type=float, default=5.0, help="of the gradient (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="(default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", choices=[OURS, PEER], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer_python and shutil.which(arguments.peer_python) is None:
        parser.error(f"--peer-python {arguments.peer_python}: there is no such program")
    if arguments.worker:
        work(arguments)
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    pythons = {OURS: sys.executable}
    if arguments.peer_python:
        pythons[PEER] = arguments.peer_python
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "TQDM_DISABLE": "1"}
    workers = {
        name: subprocess.Popen(
            [python, __file__, *sys.argv[1:], "--worker", name],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, python in pythons.items()
    }

    def ask(name: str) -> dict[str, Any]:
        """The worker's next line."""
        worker = workers[name]
        assert worker.stdout is not None
        line = worker.stdout.readline()
        if not line:
            raise SystemExit(f"The process of {name} ended. What it says is above.")
        return json.loads(line)

    def tell(name: str) -> None:
        worker = workers[name]
        assert worker.stdin is not None
        worker.stdin.write("round\n")
        worker.stdin.flush()

    try:
        about = {name: ask(name) for name in workers}
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
        names = list(workers)
        for number in range(1 + arguments.rounds):
            for name in names if number % 2 else reversed(names):
                tell(name)
                rounds[name].append(ask(name))
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    report(arguments, about, rounds)


def report(
    arguments: argparse.Namespace, about: dict[str, dict[str, Any]], rounds: dict[str, list[dict[str, float]]]
) -> None:
    print(
        f"{platform.machine()}, {arguments.threads} threads, Python {platform.python_version()}, "
        f"{arguments.rounds} rounds of {arguments.batches} batches of {arguments.batch_size} pairs"
        f"{' of like lengths' if arguments.by_length else ''}, {about[OURS]['tokens']} target tokens a round; "
        f"{about[OURS]['source_words']} and {about[OURS]['target_words']} words\n"
    )
    print(
        "| | PyTorch | parameters | target tokens / s | the fastest round's | / CPU s | the fastest round's "
        "| loss, first and last round |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    rates: dict[str, dict[str, list[float]]] = {}
    for name, own in rounds.items():
        tokens = about[name]["tokens"]
        # The first round compiles, and allocates.
        rates[name] = {clock: [tokens / one[clock] for one in own[1:]] for clock in ("wall_seconds", "cpu_seconds")}
        columns = [
            f"{summary(of_clock):.0f}" for of_clock in rates[name].values() for summary in (statistics.median, max)
        ]
        losses = f"{own[0]['loss']:.2f}, {own[-1]['loss']:.2f}"
        print(
            f"| {name} {about[name]['version']} | {about[name]['torch']} | {about[name]['parameters']:,} "
            f"| {' | '.join(columns)} | {losses} |"
        )
    if PEER in rates:
        wall, cpu = (
            statistics.median(own / peer for own, peer in zip(rates[OURS][clock], rates[PEER][clock], strict=True))
            for clock in ("wall_seconds", "cpu_seconds")
        )
        print(f"\n{OURS} / {PEER}: {wall:.2f}, by CPU time {cpu:.2f} (medians of the rounds' ratios)")


def work(arguments: argparse.Namespace) -> None:
    """Goes through the batches once for each line that comes, and answers with what that took."""
    answers = sys.stdout
    sys.stdout = sys.stderr
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    logging.disable(logging.WARNING)
    problem = make_problem(arguments)
    with tempfile.TemporaryDirectory() as folder:
        trainee = (prepare_ours if arguments.worker == OURS else prepare_peer)(arguments, problem, folder)
        about = {
            "version": trainee.version,
            "torch": torch.__version__,
            "parameters": sum(parameter.numel() for parameter in trainee.model.parameters()),
            # Each target's end is predicted, too.
            "tokens": sum(len(target) + 1 for batch in problem.batches for _, target in batch),
            "source_words": len(problem.source_words),
            "target_words": len(problem.target_words),
        }
        print(json.dumps(about), file=answers, flush=True)
        for _ in sys.stdin:
            cpu_start, start = time.process_time(), time.perf_counter()
            loss = trainee.train()
            wall_seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
            answer = {"wall_seconds": wall_seconds, "cpu_seconds": cpu_seconds, "loss": loss}
            print(json.dumps(answer), file=answers, flush=True)


def make_problem(arguments: argparse.Namespace) -> Problem:
    with Path(arguments.train).open(encoding="utf-8") as lines:
        texts = [line.rstrip("\n").split("\t") for line in lines]
    pairs = [(source.split(), target.split()) for source, target in texts]
    num_pairs = arguments.batches * arguments.batch_size
    if len(pairs) < num_pairs:
        raise SystemExit(f"{arguments.train} has {len(pairs)} pairs, but {num_pairs} are needed")
    chosen = random.Random(arguments.seed).sample(pairs, num_pairs)
    if arguments.by_length:
        chosen.sort(key=lambda pair: (len(pair[0]), len(pair[1])))
    size = arguments.batch_size
    batches = [chosen[start : start + size] for start in range(0, num_pairs, size)]
    random.Random(arguments.seed).shuffle(batches)
    source_words, target_words = (
        [word for word, count in Counter(words).most_common() if count >= arguments.min_count]
        for words in (
            (word for source, _ in pairs for word in source),
            (word for _, target in pairs for word in target),
        )
    )
    return Problem(source_words, target_words, batches)


def prepare_ours(arguments: argparse.Namespace, problem: Problem, folder: str) -> Trainee:
    from allennlp.common import Params
    from allennlp.common.util import END_SYMBOL, START_SYMBOL, import_module_and_submodules
    from allennlp.data import Batch, TensorDict, Vocabulary
    from allennlp.models import Model
    from allennlp.training import GradientDescentTrainer, Trainer

    from regattn_allennlp.data.dataset_readers import SequencePairsDatasetReader
    from regattn_allennlp.version import VERSION

    import_module_and_submodules("regattn_allennlp")
    vocab = Vocabulary(
        tokens_to_add={
            "source_tokens": [END_SYMBOL, *problem.source_words],
            "target_tokens": [START_SYMBOL, END_SYMBOL, *problem.target_words],
        }
    )
    model = Model.from_params(
        Params(
            {
                "type": "attentional_seq2seq",
                "source_text_field_embedder": {
                    "token_embedders": {
                        "tokens": {
                            "type": "embedding",
                            "embedding_dim": arguments.embedding_dim,
                            "vocab_namespace": "source_tokens",
                        }
                    }
                },
                "encoder": {
                    "type": "lstm",
                    "input_size": arguments.embedding_dim,
                    "hidden_size": arguments.hidden_dim // 2,
                    "num_layers": arguments.layers,
                    "dropout": arguments.dropout if arguments.layers > 1 else 0.0,
                    "bidirectional": True,
                },
                "attention": "softmax",
                "target_embedding_dim": arguments.embedding_dim,
                "decoder_hidden_dim": arguments.hidden_dim,
                "num_decoder_layers": arguments.layers,
                "input_feeding": not arguments.no_input_feeding,
                "dropout": arguments.dropout,
                "label_smoothing": arguments.label_smoothing,
            }
        ),
        vocab=vocab,
    )
    reader = SequencePairsDatasetReader()

    def made_batch(pairs: list[Pair]) -> TensorDict:
        batch = Batch(
            [reader.text_to_instance(" ".join([*source, END_SYMBOL]), " ".join(target)) for source, target in pairs]
        )
        for instance in batch.instances:
            reader.apply_token_indexers(instance)
        batch.index_instances(vocab)
        return batch.as_tensor_dict()

    batches = [made_batch(pairs) for pairs in problem.batches]

    class Batches:
        """What the trainer wants of a data loader."""

        def __len__(self) -> int:
            return len(batches)

        def __iter__(self) -> Iterator[TensorDict]:
            return iter(batches)

        def set_target_device(self, device: torch.device) -> None:
            pass

    trainer = Trainer.from_params(
        Params(
            {
                "optimizer": {"type": "adam", "lr": arguments.learning_rate},
                "grad_norm": arguments.clip_norm,
                "cuda_device": -1,
                "run_confidence_checks": False,
            }
        ),
        model=model,
        data_loader=Batches(),
        serialization_dir=folder,
    )
    assert isinstance(trainer, GradientDescentTrainer)

    def train() -> float:
        # As in `train`, without what follows an epoch.
        trainer._batches_in_epoch_completed = 0
        return trainer._train_epoch(0)["loss"]

    return Trainee(VERSION, model, train)


def prepare_peer(arguments: argparse.Namespace, problem: Problem, folder: str) -> Trainee:
    import joeynmt
    from joeynmt.batch import Batch
    from joeynmt.config import parse_train_args
    from joeynmt.model import build_model
    from joeynmt.training import TrainManager
    from joeynmt.vocabulary import Vocabulary

    symbols = {"unk": "<unk>", "pad": "<pad>", "bos": "<s>", "eos": "</s>"}
    special = SimpleNamespace(
        lang_tags=[],
        sep_token=None,
        **{f"{name}_token": symbol for name, symbol in symbols.items()},
        **{f"{name}_id": index for index, name in enumerate(symbols)},
    )
    source_vocab, target_vocab = Vocabulary(problem.source_words, special), Vocabulary(problem.target_words, special)
    sizes = {
        "type": "recurrent",
        "rnn_type": "lstm",
        "embeddings": {"embedding_dim": arguments.embedding_dim, "dropout": arguments.dropout},
        "num_layers": arguments.layers,
        "dropout": arguments.dropout,
    }
    decoder = {
        "hidden_size": arguments.hidden_dim,
        "attention": "luong",
        "input_feeding": not arguments.no_input_feeding,
        "hidden_dropout": arguments.dropout,
        "init_hidden": "bridge",
    }
    encoder = {"hidden_size": arguments.hidden_dim // 2, "bidirectional": True}
    model = build_model({"encoder": {**sizes, **encoder}, "decoder": {**sizes, **decoder}}, source_vocab, target_vocab)
    train_args = parse_train_args(
        {
            "batch_size": arguments.batch_size,
            "optimizer": "adam",
            "learning_rate": arguments.learning_rate,
            "clip_grad_norm": arguments.clip_norm,
            "label_smoothing": arguments.label_smoothing,
            "normalization": "tokens",
            "scheduling": "exponential",  # by epochs, none of which ends
        }
    )
    model.loss_function = (train_args.loss, train_args.label_smoothing)
    device = torch.device("cpu")

    def made_batch(pairs: list[Pair]) -> Batch:
        source, source_length, _ = source_vocab.sentences_to_ids([source for source, _ in pairs], bos=False, eos=True)
        target, _, _ = target_vocab.sentences_to_ids([target for _, target in pairs], bos=True, eos=True)
        return Batch(
            src=torch.tensor(source),
            src_length=torch.tensor(source_length),
            src_prompt_mask=None,
            trg=torch.tensor(target),
            trg_prompt_mask=None,
            indices=torch.arange(len(pairs)),
            device=device,
            pad_index=target_vocab.pad_index,
            eos_index=target_vocab.eos_index,
        )

    batches = [made_batch(pairs) for pairs in problem.batches]
    manager = TrainManager(
        rank=0,
        model=model,
        model_dir=Path(folder),
        device=device,
        autocast={"device_type": "cpu", "enabled": False},
        train_args=train_args,
    )

    def train() -> float:
        # As in `train_and_validate`.
        total_loss = 0.0
        model.train()
        model.zero_grad()
        for batch in batches:
            loss, _ = manager._train_step(batch)
            manager.clip_grad_fun(parameters=model.parameters())
            manager.optimizer.step()
            model.zero_grad()
            total_loss += loss
        return total_loss / len(batches)

    return Trainee(joeynmt.__version__, model, train)


if __name__ == "__main__":
    main()
