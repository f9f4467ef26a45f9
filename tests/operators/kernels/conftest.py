import pytest


@pytest.fixture(scope="module")
def gpu():
    pytest.importorskip("triton")
    from tests.operators.kernels.interpreter import kernels_that_run

    with kernels_that_run() as kernels:
        yield kernels
