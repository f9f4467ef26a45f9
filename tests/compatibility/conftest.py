# The data loader "cached" writes to the cache.
from tests.data.conftest import caches_in_a_temporary_folder  # noqa: F401
