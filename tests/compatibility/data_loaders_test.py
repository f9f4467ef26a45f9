import random
from itertools import chain

import pytest
from allennlp.data import Vocabulary
from allennlp.data.data_loaders import MultiProcessDataLoader
from allennlp.data.samplers import BucketBatchSampler

from regattn_allennlp.data.dataset_readers import EntailmentDatasetReader

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
