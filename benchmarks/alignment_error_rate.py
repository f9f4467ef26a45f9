"""
How well equal words, and the attention of trained models, align what people have aligned: the alignment error rate,
precision and recall (Och & Ney 2003) on data with gold links. Equal words are all pairs of a word of the one text and
a word of the other that are the same in lower case.

    python benchmarks/alignment_error_rate.py --data dev.jsonl --reader '{"type": "entailment", "has_labels": false,
        "gold_links": {"order": "premise-hypothesis"}}' output/softmax output/sparsemax
"""

import argparse
import json
import logging

import torch
from allennlp.common import Params
from allennlp.common.util import import_module_and_submodules
from allennlp.data import Batch, DatasetReader, Instance
from allennlp.models import Model
from allennlp.models.archival import load_archive

from regattn_allennlp.data.token_links import GOLD_LINKS, TokenLinks
from regattn_allennlp.training.metrics import AlignmentErrorRate

BATCH_SIZE = 32
NAMES = ("alignment_error_rate", "alignment_precision", "alignment_recall")
TEXTS = (("source", "target"), ("premise", "hypothesis"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", nargs="*", help="what `allennlp train` wrote")
    parser.add_argument("--data", required=True, help="with gold links, as the dataset readers take them")
    parser.add_argument(
        "--reader", required=True, help='a dataset reader with "gold_links", in JSON; of archives it changes their own'
    )
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    import_module_and_submodules("regattn_allennlp")
    reader = json.loads(arguments.reader)
    print("| alignment by | AER | precision | recall |")
    print("| --- | --- | --- | --- |")
    instances = list(DatasetReader.from_params(Params(json.loads(arguments.reader))).read(arguments.data))
    show("equal words", equal_words(instances))
    for path in arguments.archives:
        archive = load_archive(path, overrides={f"dataset_reader.{key}": value for key, value in reader.items()})
        metrics = of_model(archive.model, list(archive.dataset_reader.read(arguments.data)))
        for prefix in sorted(name.removesuffix(NAMES[0]) for name in metrics if name.endswith(NAMES[0])):
            of = prefix.strip("_").replace("_", " ") or "attention"
            show(f"{path}, {of}", {name: metrics[f"{prefix}{name}"] for name in NAMES})


def show(name: str, metrics: dict[str, float]) -> None:
    print(f"| {name} | {' | '.join(f'{metrics[key]:.4f}' for key in NAMES)} |", flush=True)


def equal_words(instances: list[Instance]) -> dict[str, float]:
    metric = AlignmentErrorRate(threshold=1.0)
    for instance in instances:
        metadata = instance["metadata"].metadata
        texts = next(texts for texts in TEXTS if texts[0] in metadata)
        first, second = (metadata[text].lower().split() for text in texts)
        is_equal = torch.tensor([[float(one == other) for other in second] for one in first])
        links: TokenLinks = metadata[GOLD_LINKS]
        each_a_word = [tuple((number,) for number in range(len(words))) for words in (first, second)]
        metric(is_equal.unsqueeze(0), [TokenLinks(links.sure, links.possible, *each_a_word)])
    return metric.get_metric()


@torch.no_grad()
def of_model(model: Model, instances: list[Instance]) -> dict[str, float]:
    model.eval()
    for start in range(0, len(instances), BATCH_SIZE):
        batch = Batch(instances[start : start + BATCH_SIZE])
        batch.index_instances(model.vocab)
        model(**batch.as_tensor_dict())
    return model.get_metrics(reset=True)


if __name__ == "__main__":
    main()
