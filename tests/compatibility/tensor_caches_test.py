import io
import multiprocessing
import os
import pickle
from pathlib import Path

import lmdb
import pytest
import torch
from allennlp.common.file_utils import TensorCache

import regattn_allennlp.compatibility  # noqa: F401

TENSORS = {"numbers": torch.arange(12).view(3, 4).float(), "mask": torch.tensor([True, False]), "none": torch.empty(0)}


def write(path: Path) -> None:
    cache = TensorCache(path)
    for key, tensor in TENSORS.items():
        cache[key] = tensor


def put(path: Path, key: str, value: bytes) -> None:
    with lmdb.open(str(path), subdir=False) as environment, environment.begin(write=True) as transaction:
        transaction.put(key.encode(), value)


def saved(value: object, **options: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


class MakesAFolder:
    """Does so when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("error:Detected pickle protocol")
def test_another_process_reads_what_one_wrote(tmp_path):
    path = tmp_path / "cache"
    process = multiprocessing.get_context("fork").Process(target=write, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    cache = TensorCache(path, read_only=True)
    for key, tensor in TENSORS.items():
        assert torch.equal(cache[key], tensor)
        assert cache[key].dtype == tensor.dtype


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("as_zip", [True, False])
def test_what_was_written_by_any_protocol_is_read(tmp_path, protocol, as_zip):
    path, tensor = tmp_path / "cache", TENSORS["numbers"]
    put(path, "key", saved(tensor, pickle_protocol=protocol, _use_new_zipfile_serialization=as_zip))
    assert torch.equal(TensorCache(path)["key"], tensor)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("as_zip", [True, False])
def test_what_is_not_a_tensor_is_not_loaded(tmp_path, protocol, as_zip):
    path, folder = tmp_path / "cache", tmp_path / "folder"
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": as_zip}
    put(path, "makes", saved(MakesAFolder(folder), **options))
    put(path, "plain", saved([1, 2], **options))
    cache = TensorCache(path)
    with pytest.raises(
        pickle.UnpicklingError, match=r"^\S*cache, key 'makes': there should be a tensor, but there is a posix.mkdir"
    ):
        cache["makes"]
    assert not folder.exists()
    if protocol > 2:  # else it is PyTorch that reads it, as it always did
        with pytest.raises(pickle.UnpicklingError, match=r"key 'plain': there should be a tensor.* a list"):
            cache["plain"]
    with pytest.raises(KeyError):
        cache["missing"]
