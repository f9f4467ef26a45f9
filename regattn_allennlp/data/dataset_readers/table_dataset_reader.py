from os import PathLike
from typing import ClassVar, Optional

from datasets.fingerprint import Hasher

from regattn_allennlp.data.dataset_readers.source_dataset_reader import SourceDatasetReader
from regattn_allennlp.data.gold_links import GoldLinks, SourceLinks
from regattn_allennlp.data.table_source import GivenColumns, RowKind, TableSource, open_table_source


class TableDatasetReader(SourceDatasetReader):
    """
    What dataset readers have in common whose instances come from the rows of a table: see `open_table_source`.

    A subclass sets `kind`, and in its constructor `_config_name`, `_columns`, and `_header` where it is not `True`;
    `_gold_links`, if it takes them, by `_checked`: of the words of its first two columns.
    """

    kind: ClassVar[RowKind]
    _config_name: Optional[str]
    _columns: GivenColumns
    _header: Optional[bool] = True
    _gold_links: Optional[GoldLinks] = None

    def _open(self, file_path: str | PathLike, needs_gold: bool = True) -> TableSource:
        return open_table_source(
            str(file_path), self.kind, self._config_name, self._columns, needs_gold=needs_gold, header=self._header
        )

    def _checked(self, gold_links: Optional[GoldLinks]) -> Optional[GoldLinks]:
        if gold_links is not None:
            gold_links.check(self.kind.roles[:2])
        return gold_links

    def _open_links(self, source: TableSource) -> Optional[SourceLinks]:
        return None if self._gold_links is None else self._gold_links.open(source, self.kind.roles[:2])

    def fingerprint(self, file_path: str | PathLike) -> Optional[str]:
        own = super().fingerprint(file_path)
        if own is None or self._gold_links is None:
            return own
        links = self._gold_links.open(self._open(file_path), self.kind.roles[:2])
        return Hasher.hash((own, links.source.fingerprint))
