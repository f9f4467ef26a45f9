import os
import random
import signal
from itertools import chain

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader, DatasetReader, Vocabulary
from allennlp.data.data_loaders import MultiProcessDataLoader
from allennlp.data.samplers import BucketBatchSampler

import regattn_allennlp.data.data_loaders  # noqa: F401  (registers the loader)
from regattn_allennlp.data.dataset_readers import EntailmentDatasetReader

PATH = "sample:train[:21]"


def batches(reader: DatasetReader, vocabulary: Vocabulary, **params) -> list:
    loader = DataLoader.from_params(Params({"batch_size": 4, "quiet": True, **params}), reader=reader, data_path=PATH)
    loader.index_with(vocabulary)
    return list(loader)


# A worker that is not forked imports everything anew, which takes seconds: one each for instances and for batches.
@pytest.mark.parametrize(
    "params",
    [
        {"start_method": "fork", "max_instances_in_memory": 8},
        {"start_method": "spawn"},
        {"start_method": "forkserver", "type": "cached"},
    ],
    ids=str,
)
def test_workers_of_every_start_method_read_all(params):
    reader = DatasetReader.from_params(Params({"type": "entailment", "tokenizer": {"type": "whitespace"}}))
    vocabulary = Vocabulary.from_instances(reader.read(PATH))
    expected = batches(reader, vocabulary)
    found = batches(reader, vocabulary, num_workers=1, **params)
    assert len(found) == len(expected) == 6
    for one, other in zip(found, expected, strict=True):
        assert one["metadata"] == other["metadata"]
        for key in ("premise", "hypothesis"):
            assert torch.equal(one[key]["tokens"]["tokens"], other[key]["tokens"]["tokens"])


SAMPLER = BucketBatchSampler(batch_size=8, sorting_keys=["premise"])


@pytest.mark.parametrize(
    "batches", [{"batch_size": 8, "shuffle": True}, {"batch_sampler": SAMPLER}], ids=["shuffled", "bucket"]
)
def test_a_worker_draws_the_same_from_the_same_seed(batches):
    reader = EntailmentDatasetReader()
    loader = MultiProcessDataLoader(
        reader, "sample:train[:64]", num_workers=1, max_instances_in_memory=64, quiet=True, **batches
    )
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))

    def premises(seed: int) -> list[list[str]]:
        random.seed(seed)
        return [[item["premise_tokens"] for item in batch["metadata"]] for batch in loader]

    first, second, other = premises(1), premises(1), premises(2)
    assert first == second
    assert first != other and sorted(chain(*first)) == sorted(chain(*other))


class KilledReader(EntailmentDatasetReader):
    """Is killed behind a few instances, as the system does that has no more memory."""

    def _read(self, file_path):
        for number, instance in enumerate(super()._read(file_path)):
            if number == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield instance


@pytest.mark.parametrize("in_memory", [None, 8], ids=["instances", "batches"])
def test_a_worker_that_is_killed_is_told_of(in_memory):
    reader = EntailmentDatasetReader()
    vocabulary = Vocabulary.from_instances(reader.read(PATH))
    with pytest.raises(ConfigurationError, match=r"reads sample:train\[:21\] .* was killed by signal 9"):
        loader = MultiProcessDataLoader(
            KilledReader(), PATH, batch_size=2, num_workers=2, max_instances_in_memory=in_memory, quiet=True
        )
        loader.index_with(vocabulary)
        list(loader)
