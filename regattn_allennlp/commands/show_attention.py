"""`allennlp show-attention`: what trained models attend to, as pictures or as a page for the browser."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError, check_for_gpu
from allennlp.common.tqdm import Tqdm
from allennlp.common.util import JsonDict, lazy_groups_of
from matplotlib.backends.backend_pdf import PdfPages

from regattn_allennlp.data.dataset_readers.entailment import EntailmentDatasetReader, Pair
from regattn_allennlp.predictors.archives import archive_names, load_dataset_reader, load_predictors, read_config
from regattn_allennlp.visualization import DIRECTIONS, attention_map
from regattn_allennlp.visualization.attention_figure import attention_figure
from regattn_allennlp.visualization.attention_page import attention_page

DOTS_PER_INCH = 150
# matplotlib refuses to draw more in a row or column.
MAX_PIXELS = 2**16
SUFFIXES = (".html", ".pdf", ".png", ".svg")

DESCRIPTION = """\
Shows what trained models attend to: for each pair of sentences, and each model, a heat map.

One pair, four models side by side in one picture:

    allennlp show-attention output/softmax output/sparsemax output/fusedmax output/oscarmax \\
        --premise "A small dog sleeps in the garden." --hypothesis "An animal is asleep." --out attention.png

Many pairs, as one page for the browser: pages to turn, filters by label and by right or wrong, weights to point at.
The file needs no network and can be mailed:

    allennlp show-attention output/softmax output/fusedmax --input sample:validation --out attention.html

By default the rows are the hypothesis' words, and each row's weights over the premise's words, the columns, sum to 1.
A blank cell is a weight of exactly zero. Words that share one weight are outlined: a box round each run of
neighbours, and a line from box to box where a group of equal weights has several.

The suffix of --out says what is written:

    .html         one file with all pairs
    .pdf          a page for each pair
    .png, .svg    a picture; of several pairs one each, numbered: attention-01.png, attention-02.png, ...

A file that is there already is overwritten.
"""


@Subcommand.register("show-attention")
class ShowAttention(Subcommand):
    """
    Draws the attention weights of archives of `RegularizedDecomposableAttention`; `DESCRIPTION` says how.

    # Raises

    `ConfigurationError`
        For archives, pairs, or an output file that cannot be; before a model is loaded.

    Registered as a `Subcommand` with name "show-attention".
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = parser.add_parser(
            self.name,
            description=DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            help="Draw what trained models attend to.",
        )
        subparser.add_argument(
            "archives", nargs="+", metavar="ARCHIVE",
            help="a folder that `allennlp train -s` wrote, or the model.tar.gz in it",
        )  # fmt: skip
        subparser.add_argument(
            "--input", metavar="PAIRS",
            help="the pairs to show, with labels or without: whatever the first archive's dataset reader reads, such "
            'as a file (JSON lines, .tsv, .csv, .parquet), "sample:validation", or "stanfordnlp/snli:test"; a slice '
            'as in "pairs.jsonl[:20]" takes some of them',
        )  # fmt: skip
        subparser.add_argument("--premise", metavar="SENTENCE", help="in place of --input: the premise of one pair")
        subparser.add_argument("--hypothesis", metavar="SENTENCE", help="and its hypothesis")
        subparser.add_argument(
            "--out", required=True, type=Path, metavar="FILE",
            help=f"the file to write; its suffix is one of {', '.join(SUFFIXES)}",
        )  # fmt: skip
        subparser.add_argument(
            "--direction", choices=DIRECTIONS, default=DIRECTIONS[0],
            help="which words attend (the rows) to which (the columns); the default is %(default)s",
        )  # fmt: skip
        subparser.add_argument(
            "--batch-size", type=int, default=32, metavar="N", help="pairs to predict at a time (default: %(default)s)"
        )
        subparser.add_argument(
            "--cuda-device", type=int, default=-1, metavar="ID", help="the GPU to use, if any (default: none)"
        )
        subparser.set_defaults(func=_show_attention)
        return subparser


def _show_attention(arguments: argparse.Namespace) -> None:
    _check_arguments(arguments)
    names = archive_names(arguments.archives)
    for path in arguments.archives:
        read_config(path)
    if arguments.input is None:
        pairs = [Pair(arguments.premise, arguments.hypothesis, label=None)]
    else:
        reader = load_dataset_reader(arguments.archives[0])
        if not isinstance(reader, EntailmentDatasetReader):
            raise ConfigurationError(
                f'The dataset reader of "{arguments.archives[0]}" is of type {type(reader).__name__}: --input '
                "needs an archive whose dataset reader is of type entailment."
            )
        pairs = list(reader.read_pairs(arguments.input))
    shown = _predict(pairs, arguments)
    if arguments.out.suffix.lower() == ".html":
        arguments.out.write_text(attention_page(names, list(shown)), encoding="utf-8")
    else:
        _draw(names, shown, len(pairs), arguments.out)


def _check_arguments(arguments: argparse.Namespace) -> None:
    sentences = {"--premise": arguments.premise, "--hypothesis": arguments.hypothesis}
    given = [name for name, sentence in sentences.items() if sentence is not None]
    if len(given) != (2 if arguments.input is None else 0):
        found = [*(["--input"] if arguments.input is not None else []), *given]
        raise ConfigurationError(
            f"Given is {' and '.join(found) or 'no pair'}: wanted is --input, or both --premise and --hypothesis."
        )
    for name in given:
        if not sentences[name].strip():
            raise ConfigurationError(f"{name} must be a sentence, but is {sentences[name]!r}.")
    if arguments.out.suffix.lower() not in SUFFIXES:
        raise ConfigurationError(
            f'--out "{arguments.out}" ends in "{arguments.out.suffix}", where one of {", ".join(SUFFIXES)} is wanted.'
        )
    if not arguments.out.parent.is_dir():
        raise ConfigurationError(f'The folder of --out "{arguments.out}" does not exist.')
    if arguments.out.is_dir():
        raise ConfigurationError(f'--out "{arguments.out}" is a folder, where a file is wanted.')
    if arguments.batch_size < 1:
        raise ConfigurationError(f"--batch-size must be at least 1, but is {arguments.batch_size}.")
    check_for_gpu(arguments.cuda_device)


def _predict(pairs: Sequence[Pair], arguments: argparse.Namespace) -> Iterator[JsonDict]:
    """Yields what `attention_page` takes, pair by pair."""
    predictors = [loaded.predictor for loaded in load_predictors(arguments.archives, arguments.cuda_device)]
    with Tqdm.tqdm(total=len(pairs), desc="showing") as progress:
        for batch in lazy_groups_of(pairs, arguments.batch_size):
            inputs = [{"premise": pair.premise, "hypothesis": pair.hypothesis} for pair in batch]
            of_archives = [predictor.predict_batch_json(inputs) for predictor in predictors]
            for pair, *predictions in zip(batch, *of_archives, strict=True):
                yield {
                    **pair._asdict(),
                    "predictions": [
                        {
                            "label": prediction["label"],
                            "probability": prediction["probabilities"][prediction["label"]],
                            "map": attention_map(prediction, arguments.direction),
                        }
                        for prediction in predictions
                    ],
                }
                progress.update()


def _draw(names: Sequence[str], shown: Iterator[JsonDict], number: int, out: Path) -> None:
    figures = (
        attention_figure(
            [_title(name, pair, prediction) for name, prediction in zip(names, pair["predictions"], strict=True)],
            [prediction["map"] for prediction in pair["predictions"]],
        )
        for pair in shown
    )
    # Text that stays text, to select and to search.
    with matplotlib.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
        if out.suffix.lower() == ".pdf":
            with PdfPages(out) as pages:
                for figure in figures:
                    pages.savefig(figure)
            return
        for index, figure in enumerate(figures, start=1):
            numbered = out.with_stem(f"{out.stem}-{index:0{len(str(number))}}") if number > 1 else out
            if out.suffix.lower() == ".png" and max(figure.get_size_inches()) * DOTS_PER_INCH >= MAX_PIXELS:
                raise ConfigurationError(
                    f"{numbered} would be larger than a PNG may be: the sentences are too long. Write .html, .pdf or "
                    ".svg, or show fewer archives."
                )
            figure.savefig(numbered, dpi=DOTS_PER_INCH)


def _title(name: str, pair: JsonDict, prediction: JsonDict) -> str:
    gold = "" if pair["label"] is None else f" (gold: {pair['label']})"
    return f"{name}\n{prediction['label']} {prediction['probability']:.2f}{gold}"
