import atexit
import gc
import random
from collections.abc import Iterator

from allennlp.data import DataLoader, DatasetReader, Instance
from allennlp.data.data_loaders import MultiProcessDataLoader
from allennlp.data.data_loaders.data_loader import TensorDict

from regattn_allennlp.data.instance_store import InstanceStore


@DataLoader.register("cached")
class CachedDataLoader(MultiProcessDataLoader):
    """
    AllenNLP's `MultiProcessDataLoader` with the instances on disk instead of in memory: the reader reads and tokenizes
    the data once, this run and later ones take the instances from a file (see `InstanceStore`), and memory does not
    grow with the data.

    Where the batches are shuffled (by `shuffle`, or a `batch_sampler` such as `"bucket"` whose own `shuffle` is on),
    every pass draws a new order of all rows. The `batch_sampler` is then given `max_instances_in_memory` of them at a
    time. The order depends on the random seed alone; in distributed training each process shuffles its own share.

    Registered as a `DataLoader` with name "cached".

    # Parameters

    reader : `DatasetReader`
        A reader that knows the `fingerprint` of its data, such as `EntailmentDatasetReader`.
    data_path : `str`
    max_instances_in_memory : `int`, optional (default=`4096`)
        Of this many instances the `batch_sampler` makes batches at a time. A multiple of the batch size gives no
        smaller batches than the last one.

    All other parameters are those of `MultiProcessDataLoader`.

    # Raises

    `ConfigurationError`
        If the reader has no fingerprint, or raises it.
    """

    def __init__(
        self, reader: DatasetReader, data_path: str, *, max_instances_in_memory: int = 4096, **kwargs
    ) -> None:
        self._store = InstanceStore(reader, data_path, quiet=kwargs.get("quiet", False))
        super().__init__(self._store, data_path, max_instances_in_memory=max_instances_in_memory, **kwargs)
        # The instances come and go, and so the garbage collector runs often. It took half the time of a pass, looking
        # through all that is there to stay, mostly what has been imported: from here on it does not.
        gc.collect()
        gc.freeze()
        atexit.register(gc.unfreeze)  # libraries tidy up at the end, and complain of what they cannot
        self._draws_an_order = self.shuffle or getattr(self.batch_sampler, "shuffle", False)

    def __len__(self) -> int:
        if self.batches_per_epoch is not None:
            return self.batches_per_epoch
        number_of_workers = max(1, self.num_workers)
        shares = [len(range(len(self._store))[worker::number_of_workers]) for worker in range(number_of_workers)]
        return sum(map(self._number_of_batches, shares))

    def _number_of_batches(self, number_of_instances: int) -> int:
        if self.batch_sampler is None:
            full, rest = divmod(number_of_instances, self.batch_size)
            return full + (rest > 0 and not self.drop_last)
        full, rest = divmod(number_of_instances, self.max_instances_in_memory)
        sizes = [self.max_instances_in_memory] * full + [rest] * (rest > 0)
        try:
            # Most samplers need no more than how many instances there are.
            return sum(self.batch_sampler.get_num_batches(range(size)) for size in sizes)
        except AttributeError as error:
            raise TypeError("The number of batches depends on the lengths of the instances.") from error

    def iter_instances(self) -> Iterator[Instance]:
        return self._store.instances_to_count()

    def _iter_batches(self) -> Iterator[TensorDict]:
        # Here, not in the reader: the workers of all passes start from the same state of `random`.
        self._store.shuffle_seed = random.getrandbits(64) if self._draws_an_order else None
        if self.num_workers > 0:
            yield from super()._iter_batches()
        else:
            yield from self._instances_to_batches(self._store.read(self.data_path), move_to_device=True)
