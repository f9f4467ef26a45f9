from os import PathLike
from typing import ClassVar, Optional

from regattn_allennlp.data.dataset_readers.source_dataset_reader import SourceDatasetReader
from regattn_allennlp.data.table_source import GivenColumns, RowKind, TableSource, open_table_source


class TableDatasetReader(SourceDatasetReader):
    """
    What dataset readers have in common whose instances come from the rows of a table: see `open_table_source`.

    A subclass sets `kind`, and in its constructor `_config_name`, `_columns`, and `_header` where it is not `True`.
    """

    kind: ClassVar[RowKind]
    _config_name: Optional[str]
    _columns: GivenColumns
    _header: Optional[bool] = True

    def _open(self, file_path: str | PathLike, needs_gold: bool = True) -> TableSource:
        return open_table_source(
            str(file_path), self.kind, self._config_name, self._columns, needs_gold=needs_gold, header=self._header
        )
