import copyreg
import io
import logging
import os
import pickle
import sqlite3
import weakref
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from copy import copy
from pathlib import Path
from typing import Any, Optional
from uuid import uuid4

import datasets
import numpy as np
from allennlp.common import Tqdm
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Field, Instance, Token
from allennlp.data.dataset_readers.dataset_reader import WorkerInfo
from filelock import FileLock

logger = logging.getLogger(__name__)

FOLDER = "regattn_allennlp_instances"  # within the cache folder of the datasets library


class InstanceStore(DatasetReader):
    """
    Keeps the instances of another reader in a file, and reads any share of them in any order.

    The file is in the cache folder of the datasets library. It is written once, and found again by whoever asks for
    the same data by a reader of the same configuration. SQLite reads single rows without mapping the file into memory:
    pages that are mapped count as the process' own, so memory would grow with the data.

    # Parameters

    reader : `DatasetReader`
        Has a method `fingerprint(data_path)`, which is the same string only if `reader.read(data_path)` gives the same
        instances, or `None` if that cannot be told: then the file is for this object alone, and is removed with it.
    data_path : `str`
        What the reader reads.
    quiet : `bool`, optional (default=`False`)
        No progress bar while the file is written.

    # Raises

    `ConfigurationError`
        If the reader has no `fingerprint`, an instance cannot be pickled, or the reader raises it.
    """

    def __init__(self, reader: DatasetReader, data_path: str, quiet: bool = False) -> None:
        super().__init__(manual_distributed_sharding=True, manual_multiprocess_sharding=True)
        if not hasattr(reader, "fingerprint"):
            raise ConfigurationError(
                f'The data loader "cached" cannot tell when what {type(reader).__name__} reads changes: it has no '
                'method fingerprint. Take a dataset reader of this package or the data loader "multiprocess".'
            )
        self._reader = reader
        self.shuffle_seed: Optional[int] = None
        """Where not `None`, the rows are read in an order drawn by this seed."""

        fingerprint = reader.fingerprint(data_path)
        folder = Path(datasets.config.HF_DATASETS_CACHE) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{fingerprint or uuid4().hex}.sqlite"
        lock = self._path.with_suffix(".lock")
        if fingerprint is None:
            for path in (self._path, lock):
                weakref.finalize(self, path.unlink, missing_ok=True)
        # One process writes, the others wait for it.
        with FileLock(lock):
            if self._path.exists():
                logger.info("Instances of %s are taken from %s.", data_path, self._path)
            else:
                self._write(self._all_instances(data_path, quiet))
        with closing(self._connect()) as connection:
            ((self._number_of_rows,),) = connection.execute("SELECT count(*) FROM instances")

    def __len__(self) -> int:
        return len(self._own_rows())

    def instances_to_count(self) -> Iterator[Instance]:
        """
        Yields this process' share of the instances, whose fields are read only when they are asked for.
        """
        for vocabulary_items, instance in self._select("vocabulary_items, instance"):
            yield StoredInstance(vocabulary_items, instance, self._reader)

    def apply_token_indexers(self, instance: Instance) -> None:
        self._reader.apply_token_indexers(instance)

    def _read(self, file_path: str) -> Iterable[Instance]:
        for (instance,) in self._select("instance"):
            yield _unpickle(instance)

    def _select(self, columns: str) -> Iterator[tuple]:
        rows = self._own_rows()
        select = f"SELECT {columns} FROM instances"
        # Opened here, for a connection must not go from one process to another.
        with closing(self._connect()) as connection:
            if self.shuffle_seed is None:
                # One after the other is faster than one by one.
                yield from connection.execute(f"{select} WHERE row % ? = ? ORDER BY row", (rows.step, rows.start))
            else:
                for row in np.random.default_rng(self.shuffle_seed).permutation(rows):
                    yield connection.execute(f"{select} WHERE row = ?", (int(row),)).fetchone()

    def _own_rows(self) -> range:
        rows = range(self._number_of_rows)
        distributed_info, worker_info = self.get_distributed_info(), self.get_worker_info()
        if distributed_info is not None:
            rows = rows[distributed_info.global_rank :: distributed_info.world_size]
        if worker_info is not None:
            rows = rows[worker_info.id :: worker_info.num_workers]
        return rows

    def _all_instances(self, data_path: str, quiet: bool) -> Iterator[Instance]:
        # A worker that has no others beside it reads everything, and leaves the token indexers out of the instances.
        reader = copy(self._reader)
        reader._set_distributed_info(None)
        reader._set_worker_info(WorkerInfo(num_workers=1, id=0))
        return Tqdm.tqdm(reader.read(data_path), desc="storing instances", disable=quiet)

    def _write(self, instances: Iterable[Instance]) -> None:
        # Under another name until it is complete. What a process left behind that was killed is overwritten.
        incomplete = self._path.with_suffix(".incomplete")
        incomplete.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(incomplete)) as connection:
                # Nothing to roll back to: an incomplete file is never read.
                connection.execute("PRAGMA journal_mode = OFF")
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute("CREATE TABLE instances (row INTEGER PRIMARY KEY, vocabulary_items, instance)")
                connection.executemany("INSERT INTO instances VALUES (?, ?, ?)", self._records(instances))
                connection.commit()
            os.replace(incomplete, self._path)
        finally:
            incomplete.unlink(missing_ok=True)

    def _records(self, instances: Iterable[Instance]) -> Iterator[tuple[int, bytes, bytes]]:
        for row, instance in enumerate(instances):
            pickled = _pickle(instance)
            self._reader.apply_token_indexers(instance)
            counter: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
            instance.count_vocab_items(counter)
            counts = {namespace: dict(items) for namespace, items in counter.items()}
            yield row, pickle.dumps(counts, pickle.HIGHEST_PROTOCOL), pickled

    def _connect(self) -> sqlite3.Connection:
        # No one writes to a complete file, so readers need no locks, which not every file system has.
        return sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


class StoredInstance(Instance):
    """
    An instance of an `InstanceStore`. It knows what it adds to a vocabulary's counts; its fields, which are ten times
    the work, are unpickled when they are first asked for.
    """

    def __init__(self, vocabulary_items: bytes, pickled: bytes, reader: DatasetReader) -> None:
        self._vocabulary_items = vocabulary_items
        self._pickled = pickled
        self._reader = reader
        self._fields: Optional[dict[str, Field]] = None
        self.indexed = False

    @property
    def fields(self) -> dict[str, Field]:
        if self._fields is None:
            instance = _unpickle(self._pickled)
            self._reader.apply_token_indexers(instance)
            self._fields = instance.fields
        return self._fields

    def count_vocab_items(self, counter: dict[str, dict[str, int]]) -> None:
        for namespace, counts in pickle.loads(self._vocabulary_items).items():
            total = counter[namespace]
            for item, count in counts.items():
                total[item] += count


def _token_arguments(token: Token) -> tuple[type[Token], tuple]:
    return Token, tuple(getattr(token, name) for name in Token.__slots__)


class _Pickler(pickle.Pickler):
    # By their constructor's arguments tokens are half as large, and read in a quarter of the time.
    dispatch_table = {**copyreg.dispatch_table, Token: _token_arguments}  # noqa: RUF012


def _pickle(instance: Instance) -> bytes:
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(instance)
    except Exception as error:  # each class has its own way of saying that it cannot be pickled
        raise ConfigurationError(
            f'The data loader "cached" cannot pickle an instance ({error!r}): {instance} '
            'Take a tokenizer whose tokens can be pickled, or the data loader "multiprocess".'
        ) from error
    return zlib.compress(buffer.getvalue(), level=1)


def _unpickle(pickled: bytes) -> Any:
    return pickle.loads(zlib.decompress(pickled))
