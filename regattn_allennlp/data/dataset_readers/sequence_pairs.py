import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from os import PathLike
from typing import Any, ClassVar, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.common.util import END_SYMBOL, START_SYMBOL
from allennlp.data import DatasetReader, Field, Instance, Token, TokenIndexer, Tokenizer
from allennlp.data.fields import MetadataField, TextField
from allennlp.data.token_indexers import SingleIdTokenIndexer
from allennlp.data.tokenizers import WhitespaceTokenizer

from regattn_allennlp.data.dataset_readers.table_dataset_reader import TableDatasetReader
from regattn_allennlp.data.example import Example
from regattn_allennlp.data.gold_links import GoldLinks
from regattn_allennlp.data.sample_pronunciations import sample_pronunciations
from regattn_allennlp.data.source_instance import SourceInstance
from regattn_allennlp.data.table_source import RowKind, TableSource, TextRow
from regattn_allennlp.data.token_links import GOLD_LINKS, TokenLinks, WordLinks
from regattn_allennlp.data.tokenizers.words_of_tokens import words_of_tokens

logger = logging.getLogger(__name__)

SEQUENCE_PAIRS = RowKind(
    roles=("source", "target"),
    layouts=[
        ("source", "target"),
        ("document", "summary"),  # Gigaword, XSum
        ("article", "highlights"),  # CNN/DailyMail
        ("text", "summary"),
    ],
    gold_is_text=True,
    sample=sample_pronunciations,
)


@DatasetReader.register("sequence_pairs")
class SequencePairsDatasetReader(TableDatasetReader):
    """
    Reads pairs of a source and a target text: sentences and their translations, documents and their summaries, words
    and their pronunciations. What it reads from, the `file_path`, may be:

    - a file of JSON lines (`.jsonl`, `.json`), tab-separated and unquoted (`.tsv`), comma-separated and quoted
      (`.csv`), or Parquet (`.parquet`); as a path, a URL, or `"archive.zip!file.jsonl"`. The text formats are UTF-8;
    - a data set of the Hugging Face hub with its split: `"EdinburghNLP/xsum:train"`, or `"wmt/wmt14:train"` with the
      `config_name` `"de-en"` and the columns `"translation.de"` and `"translation.en"`;
    - a folder written by `save_to_disk` of the datasets library: `"folder"`, or `"folder:train"` if it has splits;
    - the sample of this package, spellings and pronunciations of invented words: `"sample:train"` and
      `"sample:validation"`.

    A slice at the end selects some of the pairs: `"EdinburghNLP/xsum:train[:1000]"`, `"train.tsv[:10%]"`.

    The first line of a `.tsv` or `.csv` is taken for a header if and only if it names the wanted columns: those of
    `source_column` and `target_column`, or those of a known layout. Otherwise it is a pair, as in the files of
    AllenNLP's own `seq2seq` reader, and the columns, of which there must be two, are called `source` and `target`.

    The rows stay on disk, in the cache of the datasets library, so memory does not grow with the data; a file is read
    again when it changes.

    The instances have the fields `source_tokens` (`TextField`), `target_tokens` (`TextField`, between AllenNLP's
    `START_SYMBOL` and `END_SYMBOL`; only if there is a target) and `metadata` (`MetadataField`) with the keys
    `source`, `source_tokens`, and if there is a target, `target` and `target_tokens`: the texts as they were read,
    and the tokens as text, without the two symbols; and with `gold_links` `gold_links`, the `TokenLinks` of the source
    and the target.

    Registered as a `DatasetReader` with name "sequence_pairs".

    # Parameters

    source_tokenizer : `Tokenizer`, optional (default=`WhitespaceTokenizer()`)
        By default a text is split at its spaces: into the words of text that was tokenized before, or the characters
        of text that has spaces between them.
    target_tokenizer : `Tokenizer`, optional (default=`source_tokenizer`)
    source_token_indexers : `Dict[str, TokenIndexer]`, optional
        By default `{"tokens": SingleIdTokenIndexer(namespace="source_tokens")}`.
    target_token_indexers : `Dict[str, TokenIndexer]`, optional
        By default `{"tokens": SingleIdTokenIndexer(namespace="target_tokens")}`.
    config_name : `str`, optional (default=`None`)
        The configuration of a hub's data set that has several.
    source_column, target_column : `str`, optional (default=`None`)
        The names of the columns (or keys of the JSON objects); with a dot for what is within a column or an object,
        as in `"translation.de"`. By default those of one of these layouts: source and target, document and summary
        (Gigaword, XSum), article and highlights (CNN/DailyMail), text and summary.
    header : `bool`, optional (default=`None`)
        Whether the first line of a `.tsv` or `.csv` names its columns; by default that is found out, as told above.
    max_source_tokens, max_target_tokens : `int`, optional (default=`None`)
        Of longer texts the first so many tokens are taken, as is usual with the articles of CNN/DailyMail. The number
        of texts that were cut is logged. What the metadata has of a text is not cut, its tokens are.
    skip_empty : `bool`, optional (default=`False`)
        Whether pairs that lack a source or a target, of which large corpora of translations have some, are skipped
        while reading, and their number is logged; otherwise such a pair is a mistake.
    gold_links : `GoldLinks`, optional (default=`None`)
        Where the links are of the words of source and target, by which models measure their alignments. Links of words
        that were cut stay: they are missed.

    # Raises

    `ConfigurationError`
        While reading: if the source cannot be found or is malformed, a text is empty, a target is missing, all pairs
        were skipped, or gold links are missing or of words that are not there. The message names the file and the
        line.
    """

    kind: ClassVar[RowKind] = SEQUENCE_PAIRS

    def __init__(
        self,
        source_tokenizer: Optional[Tokenizer] = None,
        target_tokenizer: Optional[Tokenizer] = None,
        source_token_indexers: Optional[dict[str, TokenIndexer]] = None,
        target_token_indexers: Optional[dict[str, TokenIndexer]] = None,
        config_name: Optional[str] = None,
        source_column: Optional[str] = None,
        target_column: Optional[str] = None,
        header: Optional[bool] = None,
        max_source_tokens: Optional[int] = None,
        max_target_tokens: Optional[int] = None,
        skip_empty: bool = False,
        gold_links: Optional[GoldLinks] = None,
        **kwargs,
    ) -> None:
        super().__init__(manual_distributed_sharding=True, manual_multiprocess_sharding=True, **kwargs)
        self._source_tokenizer = source_tokenizer or WhitespaceTokenizer()
        self._target_tokenizer = target_tokenizer or self._source_tokenizer
        self._source_token_indexers = source_token_indexers or {"tokens": SingleIdTokenIndexer("source_tokens")}
        self._target_token_indexers = target_token_indexers or {"tokens": SingleIdTokenIndexer("target_tokens")}
        self._config_name = config_name
        self._columns = (source_column, target_column)
        self._header = header
        for name, maximum in ("max_source_tokens", max_source_tokens), ("max_target_tokens", max_target_tokens):
            if maximum is not None and maximum < 1:
                raise ConfigurationError(f"{name} must be 1 or more, but is {maximum}.")
        self._max_source_tokens = max_source_tokens
        self._max_target_tokens = max_target_tokens
        self._skip_empty = skip_empty
        self._gold_links = self._checked(gold_links)

    def _read(self, file_path: str | PathLike) -> Iterable[Instance]:
        source = self._open(file_path, needs_gold=not self._reads_to_predict)
        links = None if self._reads_to_predict else self._open_links(source)
        number_cut: Counter[str] = Counter()
        for row in self._own_rows(source):
            source_text, target_text = row.texts if len(row.texts) > 1 else (row.texts[0], None)
            of_row = None if links is None else links.of(row.row, row.texts)
            try:
                yield SourceInstance(self._instance(source_text, target_text, number_cut, of_row), row.place)
            except ConfigurationError as error:
                raise ConfigurationError(f"{source.name}, {row.place}: {error}") from error
        for role, number in number_cut.items():
            # Each of several processes has its own share, and reports of that.
            logger.info("Cut %d %ss of %s to max_%s_tokens.", number, role, source.name, role)

    def _own_rows(self, source: TableSource) -> Iterator[TextRow]:
        if self._reads_to_predict:
            return source.texts(self._own_share(source.rows), source.columns, needs_gold=False)
        if not self._skip_empty:
            return source.texts(self._own_share(source.rows), source.columns)
        # Each process has to go through all the texts, for the shares to be of the same size.
        return self._own_share(self._pairs_with_texts(source))

    def _pairs_with_texts(self, source: TableSource) -> Iterator[TextRow]:
        number_skipped = len(source.rows)
        for pair in source.texts(source.rows, source.columns, skip_empty=True):
            number_skipped -= 1
            yield pair
        if number_skipped == len(source.rows):
            raise ConfigurationError(
                f"{source.name}: all {number_skipped} pairs to read were skipped, for they lack a source or a target. "
                "So there is nothing to train on or to evaluate."
            )
        worker_info = self.get_worker_info()
        if number_skipped and (worker_info is None or worker_info.id == 0):
            logger.info("Skipped %d pairs without a source or a target in %s.", number_skipped, source.name)

    def read_examples(self, file_path: str | PathLike) -> Iterator[Example]:
        """
        Yields all pairs as they stand in the source, also those without a target, and of sources that have no targets.
        """
        source = self._open(file_path, needs_gold=False)
        texts = source.texts(source.rows, source.columns[:1])
        for (_, _, (text,)), (_, target) in zip(texts, source.gold(), strict=True):
            yield Example({"source": text}, target if target and target.strip() else None)

    def text_to_instance(  # type: ignore[override]
        self, source: str, target: Optional[str] = None, links: Optional[WordLinks] = None
    ) -> Instance:
        """`links`, of a word of the source and a word of the target each, go with a target alone."""
        return self._instance(source, target, Counter(), links)

    def _instance(
        self, source: str, target: Optional[str], number_cut: Counter[str], links: Optional[WordLinks]
    ) -> Instance:
        """Adds to `number_cut` by role what was cut."""
        tokens = self._tokens("source", source, self._source_tokenizer)
        kept = self._cut("source", tokens, self._max_source_tokens, number_cut)
        metadata: dict[str, Any] = {"source": source, "source_tokens": [token.text for token in kept]}
        fields: dict[str, Field] = {"source_tokens": TextField(kept)}
        if target is not None:
            target_tokens = self._tokens("target", target, self._target_tokenizer)
            kept_target = self._cut("target", target_tokens, self._max_target_tokens, number_cut)
            metadata.update(target=target, target_tokens=[token.text for token in kept_target])
            fields["target_tokens"] = TextField([Token(START_SYMBOL), *kept_target, Token(END_SYMBOL)])
            if links is not None:
                metadata[GOLD_LINKS] = TokenLinks(
                    *links,
                    # All tokens tell which words they are of.
                    words_of_tokens(source, tokens)[: len(kept)],
                    words_of_tokens(target, target_tokens)[: len(kept_target)],
                )
        return Instance({**fields, "metadata": MetadataField(metadata)})

    def _tokens(self, role: str, text: str, tokenizer: Tokenizer) -> list[Token]:
        tokens = tokenizer.tokenize(text)
        if not tokens:
            raise ConfigurationError(f"the {role} {text!r} has no tokens.")
        return tokens

    def _cut(self, role: str, tokens: list[Token], maximum: Optional[int], number_cut: Counter[str]) -> list[Token]:
        if maximum is not None and len(tokens) > maximum:
            number_cut[role] += 1
        return tokens[:maximum]

    def apply_token_indexers(self, instance: Instance) -> None:
        # Here, not in `text_to_instance`: between processes instances travel without their indexers.
        instance["source_tokens"].token_indexers = self._source_token_indexers
        if "target_tokens" in instance.fields:
            instance["target_tokens"].token_indexers = self._target_token_indexers
