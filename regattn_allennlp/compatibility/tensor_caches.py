"""Tensors that AllenNLP keeps on disk."""

import functools
import io
import pickle
from types import SimpleNamespace
from typing import Any

from regattn_allennlp.compatibility.mend import mend


@mend(
    "allennlp.common.file_utils",
    puts_back="Files of a `TensorCache` are read by later processes, so that the features of images are kept",
    versions="torch>=2.6",
    test="tests/compatibility/tensor_caches_test.py::test_another_process_reads_what_one_wrote",
)
def read_tensors_of_any_protocol(file_utils: Any) -> None:
    # AllenNLP writes by pickle's highest protocol, and `torch.load` reads safely only what is of its own, the second.
    # That is written from now on, and what was written before is read all the same.
    from torch.serialization import DEFAULT_PROTOCOL

    file_utils.pickle = SimpleNamespace(**{**vars(pickle), "HIGHEST_PROTOCOL": DEFAULT_PROTOCOL})
    cache = file_utils.TensorCache
    get_item = cache.__getitem__

    @functools.wraps(get_item)
    def get_item_of_any_protocol(self: Any, key: str) -> Any:
        try:
            return get_item(self, key)
        except pickle.UnpicklingError:
            with self.lmdb_env.begin(write=False) as transaction:
                saved = transaction.get(key.encode())
            try:
                tensor = _load_tensor(saved)
            except pickle.UnpicklingError as error:
                raise pickle.UnpicklingError(f"{self.lmdb_env.path()}, key {key!r}: {error}") from None
            self.cache_cache[key] = tensor
            return tensor

    cache.__getitem__ = get_item_of_any_protocol


class _TensorUnpickler(pickle.Unpickler):
    """Reads what a tensor is saved as, and nothing that could run other code."""

    def find_class(self, module: str, name: str) -> Any:
        # What holds the numbers, such as FloatStorage, is found by PyTorch itself.
        if (module, name) in {("torch._utils", "_rebuild_tensor_v2"), ("collections", "OrderedDict")}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"there should be a tensor, but there is a {module}.{name}, which is not loaded")


def _load_tensor(saved: bytes) -> Any:
    import torch

    # All that `torch.load` takes of a pickle module, also for files of before PyTorch 1.6.
    tensors_alone = SimpleNamespace(
        __name__="tensors_alone",
        Unpickler=_TensorUnpickler,
        load=lambda file, **options: _TensorUnpickler(file, **options).load(),
    )
    file = io.BytesIO(saved)
    tensor = torch.load(file, map_location="cpu", weights_only=False, pickle_module=tensors_alone)
    if not isinstance(tensor, torch.Tensor):
        raise pickle.UnpicklingError(f"there should be a tensor, but there is a {type(tensor).__name__}")
    return tensor
