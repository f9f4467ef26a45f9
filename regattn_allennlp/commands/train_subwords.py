"""`allennlp train-subwords`: subwords for the tokenizer "sentencepiece", from the data of a sequence_pairs reader."""

import argparse
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import sentencepiece
from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from allennlp.common.tqdm import Tqdm

from regattn_allennlp.commands.help_formatter import HelpFormatter
from regattn_allennlp.data.dataset_readers.sequence_pairs import SEQUENCE_PAIRS
from regattn_allennlp.data.table_source import open_table_source
from regattn_allennlp.data.tokenizers.sentencepiece_tokenizer import one_line
from regattn_allennlp.whole_file import whole_file

SIDES = ("source", "target", "both")
MODEL_TYPES = ("bpe", "unigram")
# The largest that sentencepiece takes, in bytes. It leaves out texts that are longer, by default than 4192.
MAX_TEXT_LENGTH = 2**30

DESCRIPTION = """\
Trains subwords from the texts of pairs, for the tokenizer "sentencepiece". What the pairs are read from may be
whatever the dataset reader "sequence_pairs" reads:

    allennlp train-subwords train.tsv -s subwords.model --vocab-size 4000

    allennlp train-subwords wmt/wmt14:train[:500000] --config-name de-en \\
        --source-column translation.de --target-column translation.en \\
        -s de-en.model --vocab-size 16000

The same texts give the same subwords. In the config of a training they are

    "dataset_reader": {
        "type": "sequence_pairs",
        "source_tokenizer": {
            "type": "sentencepiece", "model_path": "subwords.model"
        },
        ...
"""


@Subcommand.register("train-subwords")
class TrainSubwords(Subcommand):
    """
    Trains a sentencepiece model (Kudo and Richardson 2018); `DESCRIPTION` says how. Byte-pair encoding is that of
    Sennrich et al. 2016, the unigram language model that of Kudo 2018.

    The subwords put a text together again as it was, but for its white space: there is no normalization. They are of
    no control symbols, and `<unk>` is one of them.

    # Raises

    `ConfigurationError`
        For a file that cannot be written, before anything is read; for a source that cannot be read; for a number of
        subwords that its texts do not give. A file that was there before then stays as it was.

    Registered as a `Subcommand` with name "train-subwords".
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = parser.add_parser(
            self.name,
            description=DESCRIPTION,
            formatter_class=HelpFormatter,
            help="Train subwords for the tokenizer of a model.",
        )
        subparser.add_argument(
            "source", metavar="SOURCE",
            help='a file (JSON lines, .tsv, .csv, .parquet), a folder, or a data set of the hub as "name:split"; with '
            "a slice at its end if not all of it is wanted, as it has to be in memory",
        )  # fmt: skip
        subparser.add_argument(
            "-s", "--save-to", required=True, type=Path, metavar="FILE.model",
            help="the file to write; one that is there is overwritten once there is another to take its place",
        )  # fmt: skip
        subparser.add_argument("--vocab-size", required=True, type=int, metavar="N", help="how many subwords")
        subparser.add_argument(
            "--side", choices=SIDES, default="both",
            help="which texts of the pairs; subwords of both serve as one vocabulary",
        )  # fmt: skip
        subparser.add_argument(
            "--model-type", choices=MODEL_TYPES, default=MODEL_TYPES[0],
            help="byte-pair encoding, or a unigram language model",
        )  # fmt: skip
        subparser.add_argument(
            "--character-coverage", type=float, default=1.0, metavar="X",
            help="the share of the texts' characters that the subwords can spell, without the rarest: 0.9995 is usual "
            "for languages with thousands of characters",
        )  # fmt: skip
        subparser.add_argument(
            "--skip-empty", action="store_true", help="pass over pairs that lack a text, which are a mistake otherwise"
        )
        subparser.add_argument("--source-column", metavar="NAME", help="as of the dataset reader")
        subparser.add_argument("--target-column", metavar="NAME", help="as of the dataset reader")
        subparser.add_argument("--config-name", metavar="NAME", help="of a data set of the hub that has several")
        subparser.set_defaults(func=_train_subwords)
        return subparser


def _train_subwords(arguments: argparse.Namespace) -> None:
    _check_arguments(arguments)
    source = open_table_source(
        arguments.source,
        SEQUENCE_PAIRS,
        arguments.config_name,
        (arguments.source_column, arguments.target_column),
        needs_gold=arguments.side != "source",
        header=None,
    )
    columns = {"source": source.columns[:1], "target": source.columns[1:], "both": source.columns}[arguments.side]
    pairs = source.texts(Tqdm.tqdm(source.rows, desc="reading texts"), columns, arguments.skip_empty)
    model = train_subwords(
        (text for pair in pairs for text in pair.texts),
        arguments.vocab_size,
        arguments.model_type,
        arguments.character_coverage,
    )
    with whole_file(arguments.save_to) as unfinished:
        Path(unfinished).write_bytes(model)
    print(f"Wrote {arguments.vocab_size} subwords ({arguments.model_type}) to {arguments.save_to}")


def _check_arguments(arguments: argparse.Namespace) -> None:
    if not arguments.save_to.absolute().parent.is_dir():
        raise ConfigurationError(f'The folder of -s "{arguments.save_to}" does not exist.')
    if arguments.save_to.is_dir():
        raise ConfigurationError(f'-s "{arguments.save_to}" is a folder, where a file is wanted.')
    if arguments.vocab_size < 1:
        raise ConfigurationError(f"--vocab-size must be 1 or more, but is {arguments.vocab_size}.")
    # sentencepiece takes no less.
    if not 0.98 <= arguments.character_coverage <= 1:
        raise ConfigurationError(
            f"--character-coverage must be from 0.98 to 1, but is {arguments.character_coverage:g}."
        )


def train_subwords(
    texts: Iterable[str], vocab_size: int, model_type: str = "bpe", character_coverage: float = 1.0
) -> bytes:
    """
    Trains a sentencepiece model; the parameters are those of the command.

    # Returns

    `bytes`
        The content of a `.model` file. The same texts always give the same.

    # Raises

    `ConfigurationError`
        If the texts do not give so many subwords, or so few do not spell them; the message says how many do.
    """
    errors: list[Exception] = []

    def lines() -> Iterator[str]:
        try:
            yield from map(one_line, texts)
        except Exception as error:  # sentencepiece would tell it with its own words round it
            errors.append(error)

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines(),
            model_writer=model,
            vocab_size=vocab_size,
            model_type=model_type,
            character_coverage=character_coverage,
            max_sentence_length=MAX_TEXT_LENGTH,
            normalization_rule_name="identity",
            # The dataset reader has symbols of its own.
            bos_id=-1,
            eos_id=-1,
            # With several, the sums of the unigram model depend on how the texts are divided among them.
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        if errors:
            raise errors[0] from None
        if largest := re.search(r"too high .* <= (\d+)", str(error)):
            raise ConfigurationError(
                f"--vocab-size {vocab_size} is too large for these texts: the largest possible is {largest[1]}."
            ) from error
        if least := re.search(r"required_chars\. \d+ vs (\d+)", str(error)):
            raise ConfigurationError(
                f"--vocab-size {vocab_size} is too small for the characters of these texts: the least possible is "
                f"{least[1]}, or less with a lower --character-coverage."
            ) from error
        raise ConfigurationError(f"sentencepiece could not train on these texts: {error}") from error
    if errors:
        raise errors[0]
    return model.getvalue()
