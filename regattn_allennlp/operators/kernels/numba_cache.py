"""
numba's cache of compiled functions on disk, for disks and folders as they are. Whatever happens to the files, calls
give their results: what cannot be loaded is compiled, and what cannot be saved is used without.
"""

import hashlib
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile


def njit_with_cache(**options: Any) -> Callable[[Callable], Callable]:
    """`numba.njit(cache=True, **options)`, but it works without a cache too, and with a damaged one."""

    def compiled(function: Callable) -> Callable:
        dispatcher = numba.njit(**options)(function)
        try:
            dispatcher._cache = _Cache(function)
        except Exception as error:  # RuntimeError, where there is no folder that can be written to
            _warn_once(error)
        return dispatcher

    return compiled


class _Cache(FunctionCache):
    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp())

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return super().load_overload(*arguments)
        except Exception:  # damaged: compiled anew, and saved over it
            return None

    def save_overload(self, *arguments: Any) -> None:
        try:
            super().save_overload(*arguments)
        except Exception as error:  # a full disk, a folder that can no longer be written to
            _warn_once(error)


class _Files(IndexDataCacheFile):
    """
    The index of a function's overloads, and a file for each. These carry a digest, for damaged code would crash the
    process, and what they were compiled from: the index is not always right, as when another process wrote to the
    folder at the same time, or this one was stopped between index and data.
    """

    def load(self, key: Any) -> Any:
        saved = super().load(key)
        if saved is not None:
            digest, content = saved
            if hashlib.sha256(content).digest() == digest:
                source_stamp, saved_key, data = pickle.loads(content)
                if (source_stamp, saved_key) == (self._source_stamp, key):
                    return data
        return None

    def save(self, key: Any, data: Any) -> None:
        content = self._dump((self._source_stamp, key, data))
        super().save(key, (hashlib.sha256(content).digest(), content))

    def _load_index(self) -> Any:
        try:
            return super()._load_index()
        except Exception:  # damaged: begun anew
            return {}


_has_warned = False


def _warn_once(error: Exception) -> None:
    global _has_warned
    if not _has_warned:
        _has_warned = True
        warnings.warn(
            f"The compiled operators cannot be saved: {error}. So they are compiled anew in each process, which takes "
            "some seconds. Set the environment variable NUMBA_CACHE_DIR to a folder that can be written to.",
            RuntimeWarning,
            stacklevel=2,
        )
