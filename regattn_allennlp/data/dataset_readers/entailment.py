import logging
from collections.abc import Iterable, Iterator
from os import PathLike
from typing import Any, ClassVar, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.common.util import lazy_groups_of
from allennlp.data import DatasetReader, Field, Instance, TokenIndexer, Tokenizer
from allennlp.data.fields import LabelField, MetadataField, TextField
from allennlp.data.token_indexers import SingleIdTokenIndexer

from regattn_allennlp.data.dataset_readers.table_dataset_reader import TableDatasetReader
from regattn_allennlp.data.example import Example
from regattn_allennlp.data.gold_links import GoldLinks
from regattn_allennlp.data.sample_corpus import sample_pairs
from regattn_allennlp.data.source_instance import SourceInstance
from regattn_allennlp.data.table_source import BATCH_SIZE, RowKind, TableSource
from regattn_allennlp.data.token_links import GOLD_LINKS, TokenLinks, WordLinks
from regattn_allennlp.data.tokenizers import SpacyLanguageTokenizer
from regattn_allennlp.data.tokenizers.words_of_tokens import words_of_tokens

logger = logging.getLogger(__name__)

# How SNLI's own files and the hub's data sets, in this order, label a pair that the annotators did not agree on.
NO_GOLD_LABEL = ("-", "-1")


ENTAILMENT = RowKind(
    roles=("premise", "hypothesis", "label"),
    layouts=[
        # The hub's SNLI and MultiNLI; their own files; SICK's files of SemEval-2014; those of its authors; the hub's.
        ("premise", "hypothesis", "label"),
        ("sentence1", "sentence2", "gold_label"),
        ("sentence_A", "sentence_B", "entailment_judgment"),
        ("sentence_A", "sentence_B", "entailment_label"),
        ("sentence_A", "sentence_B", "label"),
    ],
    gold_is_text=False,
    sample=sample_pairs,
)


@DatasetReader.register("entailment")
class EntailmentDatasetReader(TableDatasetReader):
    """
    Reads pairs of a premise and a hypothesis with a label that says whether the one entails the other, for textual
    entailment (natural language inference). What it reads from, the `file_path`, may be:

    - a file of JSON lines (`.jsonl`, `.json`), tab-separated and unquoted (`.tsv`), comma-separated and quoted
      (`.csv`), or Parquet (`.parquet`); as a path, a URL, or `"archive.zip!file.jsonl"`. The text formats are UTF-8,
      and the tables have a header;
    - a data set of the Hugging Face hub with its split: `"stanfordnlp/snli:train"`, or
      `"nyu-mll/glue:validation_matched"` with the `config_name` `"mnli"`;
    - a folder written by `save_to_disk` of the datasets library: `"folder"`, or `"folder:train"` if it has splits;
    - the sample corpus of this package: `"sample:train"` and `"sample:validation"`.

    A slice at the end selects some of the pairs: `"stanfordnlp/snli:train[:1000]"`, `"train.jsonl[:10%]"`.

    Pairs without a gold label (`-` or `-1`) are skipped, and their number is logged. The rows stay on disk, in the
    cache of the datasets library, so memory does not grow with the data; a file is read again when it changes.

    The instances have the fields `premise` and `hypothesis` (`TextField`), `label` (`LabelField`) and `metadata`
    (`MetadataField`) with the keys `premise`, `hypothesis`, `premise_tokens` and `hypothesis_tokens`;
    with `gold_links` also `gold_links`, the `TokenLinks` of premise and hypothesis.

    Registered as a `DatasetReader` with name "entailment".

    # Parameters

    tokenizer : `Tokenizer`, optional (default=`SpacyLanguageTokenizer()`)
    token_indexers : `Dict[str, TokenIndexer]`, optional (default=`{"tokens": SingleIdTokenIndexer()}`)
    config_name : `str`, optional (default=`None`)
        The configuration of a hub's data set that has several.
    premise_column, hypothesis_column, label_column : `str`, optional (default=`None`)
        The names of the columns (or keys of the JSON objects). By default found by the layouts of SNLI, MultiNLI
        and SICK.
    labels : `List[str]`, optional (default=`["entailment", "neutral", "contradiction"]`)
        The labels. Upper and lower case in the data are the same. An integer in the data, if the data set has no
        names for its integers, is an index into this list.
    label_aliases : `Dict[str, str]`, optional (default=`None`)
        From another spelling of a label in the data to the label: `{"e": "entailment", ...}` for ANLI's own files.
    gold_links : `GoldLinks`, optional (default=`None`)
        Where the links are of the words of premise and hypothesis, by which models measure their alignments.
    has_labels : `bool`, optional (default=`True`)
        If false, all pairs are read without their labels, if there are any: of a model `allennlp evaluate` then
        measures the alignments alone.

    # Raises

    `ConfigurationError`
        While reading: if the source cannot be found or is malformed, has a sentence that is empty, a label that is
        neither one of the `labels` nor an alias, no gold label at all, or gold links that are missing or of words that
        are not there. The message names the file and the line.
    """

    kind: ClassVar[RowKind] = ENTAILMENT

    def __init__(
        self,
        tokenizer: Optional[Tokenizer] = None,
        token_indexers: Optional[dict[str, TokenIndexer]] = None,
        config_name: Optional[str] = None,
        premise_column: Optional[str] = None,
        hypothesis_column: Optional[str] = None,
        label_column: Optional[str] = None,
        labels: Optional[list[str]] = None,
        label_aliases: Optional[dict[str, str]] = None,
        gold_links: Optional[GoldLinks] = None,
        has_labels: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(manual_distributed_sharding=True, manual_multiprocess_sharding=True, **kwargs)
        self._tokenizer = tokenizer or SpacyLanguageTokenizer()
        self._token_indexers = token_indexers or {"tokens": SingleIdTokenIndexer()}
        self._config_name = config_name
        self._columns = (premise_column, hypothesis_column, label_column)
        self._gold_links = self._checked(gold_links)
        self._has_labels = has_labels
        self._labels = labels or ["entailment", "neutral", "contradiction"]
        self._label_of_spelling = {str(index): label for index, label in enumerate(self._labels)}
        self._label_of_spelling.update({label.lower(): label for label in self._labels})
        for alias, label in (label_aliases or {}).items():
            if label not in self._labels:
                raise ConfigurationError(
                    f'label_aliases: "{alias}" stands for "{label}", which is not one of the labels {self._labels}.'
                )
            self._label_of_spelling[alias.lower()] = label

    def _open(self, file_path: str | PathLike, needs_gold: bool = True) -> TableSource:
        return super()._open(file_path, needs_gold and self._has_labels)

    def _read(self, file_path: str | PathLike) -> Iterable[Instance]:
        source = self._open(file_path, needs_gold=not self._reads_to_predict)
        links = None if self._reads_to_predict else self._open_links(source)
        labelled: Iterable[tuple[int, Optional[str]]] = (
            self._labelled_rows(source)
            if self._has_labels and not self._reads_to_predict
            else ((row, None) for row in source.rows)
        )
        for group in lazy_groups_of(self._own_share(labelled), BATCH_SIZE):
            rows, labels = zip(*group, strict=True)
            pairs = source.texts(rows, source.columns[:-1])
            for (row, place, (premise, hypothesis)), label in zip(pairs, labels, strict=True):
                of_row = None if links is None else links.of(row, (premise, hypothesis))
                try:
                    instance = self.text_to_instance(premise, hypothesis, label, of_row)
                except ConfigurationError as error:
                    raise ConfigurationError(f"{source.name}, {place}: {error}") from error
                yield SourceInstance(instance, place)

    def read_examples(self, file_path: str | PathLike) -> Iterator[Example]:
        """
        Yields all pairs as they stand in the source, also those without a label, and of sources that have no labels.
        """
        source = self._open(file_path, needs_gold=False)
        for group in lazy_groups_of(source.gold(), BATCH_SIZE):
            rows, values = zip(*group, strict=True)
            texts = source.texts(rows, source.columns[:-1])
            for (row, _, (premise, hypothesis)), value in zip(texts, values, strict=True):
                unlabelled = value is None or str(value).strip() == ""
                label = None if unlabelled else self._label(source, row, value)
                yield Example({"premise": premise, "hypothesis": hypothesis}, label)

    def _labelled_rows(self, source: TableSource) -> Iterator[tuple[int, str]]:
        number_skipped = 0
        for row, value in source.gold():
            label = self._label(source, row, value)
            if label is None:
                number_skipped += 1
            else:
                yield row, label
        if number_skipped == len(source.rows):
            raise ConfigurationError(
                f"{source.name}: all {number_skipped} pairs to read were skipped, for they have no gold label (- or "
                "-1). So there is nothing to train on or to evaluate."
            )
        worker_info = self.get_worker_info()
        # Each worker of a data loader goes through all the labels: one of them reports.
        if number_skipped and (worker_info is None or worker_info.id == 0):
            logger.info("Skipped %d pairs without a gold label in %s.", number_skipped, source.name)

    def _label(self, source: TableSource, row: int, value: Any) -> Optional[str]:
        """
        The label that is spelled so in the source; `None` if the annotators did not agree on one.
        """
        spelling = str(value).strip().lower()
        if spelling in NO_GOLD_LABEL:
            return None
        if spelling not in self._label_of_spelling:
            raise ConfigurationError(
                f'{source.location(row)}: "{source.columns[-1]}" is {value!r}, which is none of the labels '
                f"{', '.join(self._labels)}. Change the dataset reader's labels, or map it by label_aliases."
            )
        return self._label_of_spelling[spelling]

    def text_to_instance(  # type: ignore[override]
        self, premise: str, hypothesis: str, label: Optional[str] = None, links: Optional[WordLinks] = None
    ) -> Instance:
        """`links` are of a word of the premise and a word of the hypothesis each."""
        premise_tokens = self._tokenizer.tokenize(premise)
        hypothesis_tokens = self._tokenizer.tokenize(hypothesis)
        metadata: dict[str, Any] = {
            "premise": premise,
            "hypothesis": hypothesis,
            "premise_tokens": [token.text for token in premise_tokens],
            "hypothesis_tokens": [token.text for token in hypothesis_tokens],
        }
        if links is not None:
            metadata[GOLD_LINKS] = TokenLinks(
                *links, words_of_tokens(premise, premise_tokens), words_of_tokens(hypothesis, hypothesis_tokens)
            )
        fields: dict[str, Field] = {
            "premise": TextField(premise_tokens),
            "hypothesis": TextField(hypothesis_tokens),
            "metadata": MetadataField(metadata),
        }
        if label is not None:
            fields["label"] = LabelField(label)
        return Instance(fields)

    def apply_token_indexers(self, instance: Instance) -> None:
        # Here, not in `text_to_instance`: between processes instances travel without their indexers.
        instance["premise"].token_indexers = self._token_indexers
        instance["hypothesis"].token_indexers = self._token_indexers
