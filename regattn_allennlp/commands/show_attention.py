"""`allennlp show-attention`: what trained models attend to, as pictures or as a page for the browser."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, Optional

import matplotlib
from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError, check_for_gpu
from allennlp.common.tqdm import Tqdm
from allennlp.common.util import JsonDict, lazy_groups_of
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from regattn_allennlp.commands.help_formatter import HelpFormatter
from regattn_allennlp.data.example import Example
from regattn_allennlp.modules.latent_alignment import DISTRIBUTIONS
from regattn_allennlp.predictors.archives import (
    Task,
    archive_names,
    common_task,
    load_predictors,
    read_config,
    read_examples,
)
from regattn_allennlp.predictors.attention_predictor import AttentionPredictor
from regattn_allennlp.visualization.attention_figure import attention_figure
from regattn_allennlp.visualization.attention_page import (
    attention_page,
    page_example,
    panel_title,
    panels_of,
)
from regattn_allennlp.whole_file import naming

DOTS_PER_INCH = 150
# matplotlib refuses to draw more in a row or column.
MAX_PIXELS = 2**16
SUFFIXES = (".html", ".pdf", ".png", ".svg")

# Of each task, by the keys that its predictor takes, the options that give a single item. `_flag` spells them.
ITEM_KEYS: tuple[dict[str, str], ...] = (
    {"premise": "the premise of one pair", "hypothesis": "and its hypothesis"},
    {
        "source": "one text to translate, to sum up, to pronounce",
        "target": "with --alignment: the text that it is aligned with",
    },
    {
        "question": "one question about an image",
        "image_id": "and the image, as the region features name it",
        "answer": "with --alignment: the answer that it is aligned for",
    },
)

DESCRIPTION = """\
Shows what trained models attend to: for each item, and each model, a heat map; over an image's regions, a picture.

One pair, four models side by side in one picture:

    allennlp show-attention output/softmax output/sparsemax output/fusedmax \\
        output/oscarmax --premise "A small dog sleeps in the garden." \\
        --hypothesis "An animal is asleep." --out attention.png

Many items, as one page for the browser: to find those on which models disagree, the least confident, the sparsest, a
word; weights to point at. The file needs no network and can be mailed:

    allennlp show-attention output/softmax output/fusedmax \\
        --input sample:validation --out attention.html

Models of any task can be shown, those of one task together. A single item is given as the task wants it:

    textual entailment        --premise "A dog." --hypothesis "An animal."
    sequence to sequence      --source "ein kleiner hund"
    questions about images    --question "What is it?" --image-id 42

Self-attention is shown by layer and head, where a model's config has it: multi_head_self_attention,
intra_sentence_attention, a graph encoder, a transformer.

    allennlp show-attention output/aligned --premise "A dog." \\
        --hypothesis "An animal." --direction premise_to_premise --layer 0 \\
        --head all --out heads.png

Of a latent alignment, and of a target that is given, prior and posterior stand side by side: the weights, and what
they are once the target is known.

    allennlp show-attention output/exact --source "ein kleiner hund" \\
        --target "a small dog" --alignment posterior --out attention.png

Each row of a heat map is a word that attends (of the hypothesis, of the text that was written), and its weights over
the columns (the words of the premise, of the source) sum to 1. A blank cell is a weight of exactly zero, a dot one
below .005; a dotted line is under words that the model does not know. Words that share one weight are outlined: a box
round each run of neighbours, and a line from box to box where a group of equal weights has several. Of an image, each
region is the darker, the higher its weight; a thin outline is a weight of exactly zero, and thick outlines of one
colour are regions that share one weight.

The suffix of --out says what is written:

    .html         one file with all items
    .pdf          a page for each item
    .png, .svg    a picture; of several items one each, numbered:
                  attention-01.png, attention-02.png, ...

A file that is there already is overwritten.
"""


@Subcommand.register("show-attention")
class ShowAttention(Subcommand):
    """
    Draws the attention weights of archives of any `AttentionModel`; `DESCRIPTION` says how.

    # Raises

    `ConfigurationError`
        For archives, items, a direction, or an output file that cannot be; before a model is loaded.

    Registered as a `Subcommand` with name "show-attention".
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = parser.add_parser(
            self.name,
            description=DESCRIPTION,
            formatter_class=HelpFormatter,
            help="Draw what trained models attend to.",
        )
        subparser.add_argument(
            "archives", nargs="+", metavar="ARCHIVE",
            help="a trained model: the folder that `allennlp train -s` wrote, or the model.tar.gz in it",
        )  # fmt: skip
        subparser.add_argument(
            "--input", metavar="ITEMS",
            help="the items to show, with gold answers or without: whatever the first archive's dataset reader reads, "
            'such as a file (JSON lines, .tsv, .csv, .parquet), "sample:validation", or "stanfordnlp/snli:test"; a '
            'slice as in "items.jsonl[:20]" takes some of them',
        )  # fmt: skip
        for keys in ITEM_KEYS:
            for index, (key, description) in enumerate(keys.items()):
                text = description if index else f"in place of --input: {description}"
                subparser.add_argument(_flag(key), metavar="TEXT", help=text)
        subparser.add_argument(
            "--out", required=True, type=Path, metavar="FILE",
            help=f"the file to write; its suffix is one of {', '.join(SUFFIXES)}",
        )  # fmt: skip
        subparser.add_argument(
            "--direction", metavar="ROWS_to_COLUMNS",
            help='what attends (the rows) to what (the columns), such as "premise_to_hypothesis", or in '
            'self-attention "premise_to_premise"; by default the first of these that the model has; an .html '
            "file then has both",
        )  # fmt: skip
        subparser.add_argument(
            "--layer", type=int, metavar="N", help="of self-attention: the layer, from 0 on (default: the last)"
        )
        subparser.add_argument(
            "--head", metavar="N",
            help='of self-attention: the head, from 0 on; "all" draws each, "mean" their mean (default: mean)',
        )  # fmt: skip
        subparser.add_argument(
            "--alignment", choices=DISTRIBUTIONS, default=DISTRIBUTIONS[0], metavar="WHICH",
            help='of latent alignments: "posterior" shows prior and posterior of the target that each item has (its '
            'gold answer, or --target, --answer), "approximate_posterior" besides them what the inference network '
            'holds the posterior to be; "prior" the weights of what a model says',
        )  # fmt: skip
        subparser.add_argument("--batch-size", type=int, default=32, metavar="N", help="items to predict at a time")
        subparser.add_argument(
            "--cuda-device", type=int, default=-1, metavar="ID", help="the GPU to use, -1 for the CPU"
        )
        subparser.set_defaults(func=_show_attention)
        return subparser


class View(NamedTuple):
    """
    One of the maps that stand side by side: what `draws` make of the prediction of the archive of that number, one for
    each direction that can be chosen. With a `panel`, the prediction is one of a given target with these weights: see
    `AttentionPredictor.as_written`.
    """

    title: str
    archive: int
    draws: Sequence[Callable[[JsonDict], JsonDict]]
    panel: Optional[str] = None


def _show_attention(arguments: argparse.Namespace) -> None:
    _check_arguments(arguments)
    names = archive_names(arguments.archives)
    task = common_task({path: read_config(path) for path in arguments.archives})
    direction, is_self_attention = _direction(arguments, task)
    panels = panels_of(arguments.alignment)
    if arguments.alignment != "prior":
        _check_alignment(arguments.alignment, task, direction, is_self_attention)
    examples = _examples(arguments, task)
    predictors = [loaded.predictor for loaded in load_predictors(arguments.archives, arguments.cuda_device)]
    is_page = arguments.out.suffix.lower() == ".html"
    # A page lets one choose the direction.
    directions = task.directions if is_page and arguments.direction is None else [direction]
    views: list[View] = []
    for number, (name, predictor) in enumerate(zip(names, predictors, strict=True)):
        if arguments.alignment != "prior":
            predictor.require_distribution(arguments.alignment, name)
        if is_self_attention:
            predictor.self_attention = True
            views += _self_attention_views(name, number, predictor, direction, arguments)
        else:
            draws = [partial(predictor.attention_map, direction=each) for each in directions]
            views += [View(panel_title(name, panel), number, draws, panel) for panel in panels]
    shown = _predict(examples, predictors, views, arguments.batch_size)
    titles = [view.title for view in views]
    with naming(arguments.out):
        if is_page:
            page = attention_page(titles, list(shown), are_given=arguments.alignment != "prior")
            arguments.out.write_text(page, encoding="utf-8")
            written = str(arguments.out)
        else:
            written = _draw(titles, shown, len(examples), arguments.out)
    print(f"{written}: {_counted(len(examples), 'item')}, {_counted(len(names), 'model')}")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _check_arguments(arguments: argparse.Namespace) -> None:
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
    head = arguments.head
    if head is not None and head not in ("all", "mean") and not (head.isascii() and head.isdigit()):
        raise ConfigurationError(f'--head must be a number from 0 on, "all" or "mean", but is "{head}".')
    check_for_gpu(arguments.cuda_device)


def _direction(arguments: argparse.Namespace, task: Task) -> tuple[str, bool]:
    """And whether it is to be shown as self-attention, by layer and head."""
    layered = arguments.layer is not None or arguments.head is not None
    directions = task.self_attention_directions if layered else (*task.directions, *task.self_attention_directions)
    direction = directions[0] if arguments.direction is None else arguments.direction
    if direction not in directions:
        raise ConfigurationError(
            f'--direction is "{direction}", which is none of {"self-attention in " if layered else ""}a model for the '
            f'task "{task.predictor_name}": {", ".join(dict.fromkeys(directions))}.'
        )
    return direction, layered or direction not in task.directions


def _check_alignment(alignment: str, task: Task, direction: str, is_self_attention: bool) -> None:
    if task.predictor.given_key is None:
        raise ConfigurationError(
            f'--alignment is "{alignment}", but models for the task "{task.predictor_name}" have no latent alignment.'
        )
    if is_self_attention:
        raise ConfigurationError(
            f'--alignment is "{alignment}", which is of {", ".join(task.directions)}, not of self-attention '
            f"{direction}."
        )


def _self_attention_views(
    name: str, archive: int, predictor: AttentionPredictor, direction: str, arguments: argparse.Namespace
) -> list[View]:
    layers = predictor.self_attention_layers().get(direction, {})
    if not layers:
        raise ConfigurationError(
            f'The model "{name}" has no self-attention {direction}: in its config is no multi_head_self_attention, '
            "intra_sentence_attention or transformer that would make it."
        )
    layer = len(layers) - 1 if arguments.layer is None else arguments.layer
    if not 0 <= layer < len(layers):
        described = ", ".join(f"{number} ({module})" for number, module in enumerate(layers))
        raise ConfigurationError(f'--layer is {layer}, but the layers of "{name}" {direction} are {described}.')
    num_heads = list(layers.values())[layer]
    draw = partial(predictor.self_attention_map, direction=direction, layer=layer)
    title = f"{name}, layer {layer}"
    if arguments.head in (None, "mean"):
        return [View(f"{title}, mean of heads" if num_heads > 1 else title, archive, [draw])]
    heads = range(num_heads) if arguments.head == "all" else [int(arguments.head)]
    if heads[-1] >= num_heads:
        raise ConfigurationError(
            f'--head is {arguments.head}, but the heads of "{name}" in layer {layer} are 0 to {num_heads - 1}.'
        )
    return [View(f"{title}, head {head}", archive, [partial(draw, head=head)]) for head in heads]


def _examples(arguments: argparse.Namespace, task: Task) -> list[Example]:
    """What is to be shown: a single item by the options that its task has, or those of --input."""
    given = {key: getattr(arguments, key) for keys in ITEM_KEYS for key in keys if getattr(arguments, key) is not None}
    # A task that has no options of its own is shown by --input.
    keys = next((tuple(keys) for keys in ITEM_KEYS if set(task.predictor.required_keys) <= keys.keys()), ())
    is_aligned = arguments.alignment != "prior"
    given_key = task.predictor.given_key
    wanted = keys if is_aligned else tuple(key for key in keys if key != given_key)
    # In any order, and nothing besides.
    if given.keys() != (set(wanted) if arguments.input is None else set()) or not (given or arguments.input):
        found = [*(["--input"] if arguments.input is not None else []), *map(_flag, given)]
        *firsts, last = map(_flag, wanted) if wanted else [""]
        single = f"{', '.join(firsts)} and {last}" if firsts else last
        both = "both " if len(firsts) == 1 else ""
        raise ConfigurationError(
            f'Given is {" and ".join(found) or "no item"}: for the task "{task.predictor_name}" '
            + (f'with --alignment "{arguments.alignment}" ' if is_aligned or given_key in given else "")
            + "wanted is --input"
            + (f", or {both}{single}." if single else ".")
        )
    if arguments.input is None:
        for key, value in given.items():
            if not value.strip():
                raise ConfigurationError(f"{_flag(key)} must be a text, but is {value!r}.")
        return [Example(given, gold=None)]
    examples = list(read_examples(arguments.archives[0], arguments.input))
    if not is_aligned:
        return examples
    for number, example in enumerate(examples, start=1):
        if example.gold is None:
            raise ConfigurationError(
                f'--alignment is "{arguments.alignment}", but item {number} of "{arguments.input}" has no {given_key} '
                f"to be aligned: {example.inputs}"
            )
    assert given_key is not None
    # What is given is nothing that a model could be right or wrong about.
    return [Example({**example.inputs, given_key: example.gold}, gold=None) for example in examples]


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _predict(
    examples: Sequence[Example], predictors: Sequence[AttentionPredictor], views: Sequence[View], batch_size: int
) -> Iterator[JsonDict]:
    """Yields what `attention_page` takes, item by item."""
    number = 0
    with Tqdm.tqdm(total=len(examples), desc="showing") as progress:
        for batch in lazy_groups_of(examples, batch_size):
            of_archives = [
                predictor.predict_batch_json([dict(example.inputs) for example in batch]) for predictor in predictors
            ]
            for example, *predictions in zip(batch, *of_archives, strict=True):
                number += 1
                try:
                    shown = [_shown(view, predictors[view.archive], predictions[view.archive]) for view in views]
                except ConfigurationError as error:
                    raise ConfigurationError(
                        f"Item {number}, {example.inputs}, cannot be shown: {error.message}"
                    ) from error
                yield page_example(example.inputs, example.gold, shown)
                progress.update()


def _shown(view: View, predictor: AttentionPredictor, prediction: JsonDict) -> JsonDict:
    if view.panel is not None:
        prediction = predictor.as_written(prediction, view.panel)
    return {**predictor.answer(prediction)._asdict(), "maps": [draw(prediction) for draw in view.draws]}


def _draw(names: Sequence[str], shown: Iterator[JsonDict], number: int, out: Path) -> str:
    """Returns which files it has written. What is written before an item that cannot be drawn is kept."""
    numbered = [out.with_stem(f"{out.stem}-{index:0{len(str(number))}}") for index in range(1, number + 1)]
    is_pdf = out.suffix.lower() == ".pdf"
    files = [out] if number == 1 or is_pdf else numbered
    # Text that stays text, to select and to search.
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}),
        PdfPages(out) if is_pdf else nullcontext() as pages,
    ):
        for index, example in enumerate(shown):
            try:
                figure = _figure(names, example)
                if pages is not None:
                    # What a font cannot hold shows only when a file is closed: by itself first, not to lose all pages.
                    figure.savefig(BytesIO(), format="pdf")
                    pages.savefig(figure)
                    continue
                if out.suffix.lower() == ".png" and max(figure.get_size_inches()) * DOTS_PER_INCH >= MAX_PIXELS:
                    raise ConfigurationError(
                        "a PNG cannot be so large: the texts are too long. Write .html, .pdf or .svg, or show fewer "
                        "archives."
                    )
                figure.savefig(files[index], dpi=DOTS_PER_INCH)
            except OSError:  # the disk is full, not the item to blame
                raise
            except Exception as error:  # matplotlib, fonts and images have errors of their own
                reason = error.message if isinstance(error, ConfigurationError) else f"{type(error).__name__}: {error}"
                raise ConfigurationError(
                    f"Item {index + 1}, {example['inputs']}, cannot be drawn: {reason}"
                ) from error
    return str(out) if len(files) == 1 else f"{files[0]} to {files[-1]}"


def _figure(names: Sequence[str], example: JsonDict) -> Figure:
    heading = {key.replace("_", " "): str(value) for key, value in example["inputs"].items()}
    if example["gold"] is not None:
        heading["gold answer"] = example["gold"]
    predictions = example["predictions"]
    titles = [_title(name, example["gold"], one) for name, one in zip(names, predictions, strict=True)]
    return attention_figure(titles, [prediction["maps"][0] for prediction in predictions], heading)


def _title(name: str, gold: Optional[str], prediction: JsonDict) -> str:
    remarks = []
    if (probability := prediction["probability"]) is not None:
        # That of a long text is too low for decimals: 3e-5.
        low = f"{probability:.0e}".replace("e-0", "e-")
        remarks.append(f"p = {low if probability < 0.005 else f'{probability:.2f}'}")
    if gold not in (None, prediction["text"]):
        remarks.append("wrong")
    return "\n".join(filter(None, [name, prediction["text"], ", ".join(remarks)]))
