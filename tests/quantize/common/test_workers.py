"""Work in several processes."""

from __future__ import annotations

from threadpoolctl import threadpool_limits

from franken_gguf.quantize.common.workers import in_order
from support.blas import blas_threads


def test_matrix_products_take_one_thread_in_each_of_several_workers() -> None:
    with threadpool_limits(2, user_api="blas"):
        here = blas_threads()
        assert here and set(here) == {2}
        for found in in_order(blas_threads, range(3), 2):
            assert found and set(found) == {1}
        assert blas_threads() == here
