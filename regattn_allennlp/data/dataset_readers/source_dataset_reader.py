import copy
import logging
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from os import PathLike
from typing import Optional, Protocol, TypeVar

from allennlp.data import DatasetReader
from datasets.fingerprint import Hasher

from regattn_allennlp.version import VERSION

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R", bound="SourceDatasetReader")


class Source(Protocol):
    """What a reader opens: its fingerprint is another one if the data changed."""

    @property
    def fingerprint(self) -> str: ...


class SourceDatasetReader(DatasetReader):
    """
    What the dataset readers of this package have in common. Where several processes read, each takes its own share;
    and the instances have a fingerprint, for the data loader "cached".

    It has no constructor: AllenNLP would take its arguments for keys of the configuration.
    """

    _reads_to_predict = False

    def _open(self, file_path: str | PathLike) -> Source:
        raise NotImplementedError

    def to_predict(self: R) -> R:
        """
        The same reader, for data to predict: there is an instance for each item, also for one that training skips, and
        none needs a gold answer. Labels are left out. A target, or an answer, is kept where the data have one: that is
        what predictors tell the alignment of.
        """
        reader = copy.copy(self)
        reader._reads_to_predict = True
        reader.__dict__.pop("_configuration_fingerprint", None)  # of other instances
        return reader

    def fingerprint(self, file_path: str | PathLike) -> Optional[str]:
        """
        Tells the instances of all processes' shares together: it is the same in another run only if they are the same.

        # Returns

        `Optional[str]`
            `None` if the state of the tokenizer or of a token indexer cannot be told.
        """
        source = self._open(file_path)
        configuration = self._configuration_fingerprint
        return None if configuration is None else Hasher.hash((configuration, source.fingerprint))

    @cached_property
    def _configuration_fingerprint(self) -> Optional[str]:
        # Taken once, before the first text: a tokenizer may remember what it has seen.
        elsewhere = ("_distributed_info", "_worker_info", "serialization_dir")
        state = {name: value for name, value in vars(self).items() if name not in elsewhere}
        hashes = {}
        for name in sorted(state):
            try:
                hashes[name] = Hasher.hash(state[name])
            except Exception as error:  # whatever an object's pickling raises
                logger.warning(
                    'No instances are kept for other runs: "%s" of the dataset reader cannot be pickled (%s).',
                    name.removeprefix("_"),
                    repr(error),  # not itself: it would keep alive what is on the stack, and the log might keep it
                )
                return None
        return Hasher.hash((VERSION, type(self), hashes))

    def _own_share(self, items: Iterable[T]) -> Iterator[T]:
        """
        Leaves this process its share. Done after the skipping of any, so that all shares are of the same size.
        """
        own = iter(items)
        # By what the reader remembers, not by AllenNLP's `shard_iterable`: that asks the process group for the rank,
        # and a data loader's worker that was spawned, not forked, is outside of it.
        distributed_info, worker_info = self.get_distributed_info(), self.get_worker_info()
        if distributed_info is not None:
            own = islice(own, distributed_info.global_rank, None, distributed_info.world_size)
        if worker_info is not None:
            own = islice(own, worker_info.id, None, worker_info.num_workers)
        return own
