import pytest

# The data loader "cached" writes to the cache.
from tests.data.conftest import caches_in_a_temporary_folder  # noqa: F401

pytest.register_assert_rewrite("tests.compatibility.killed")
