import pytest
import torch
from allennlp.common import Params
from allennlp.data import DataLoader, DatasetReader, Vocabulary

import regattn_allennlp.data.data_loaders
import regattn_allennlp.data.dataset_readers  # noqa: F401  (registers the reader)

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
