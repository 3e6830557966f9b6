"""How many threads numpy's matrix products may take."""

from __future__ import annotations

from threadpoolctl import threadpool_info


def blas_threads(_: object = None) -> list[int]:
    """Of each BLAS library in this process."""
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
