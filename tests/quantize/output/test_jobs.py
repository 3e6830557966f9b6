"""Jobs: every row once, in order, whatever the size of a job and wherever the work goes on."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.quantize.checkpoint.name_mapping import MappedTensor, Piece
from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.output.jobs import START, jobs, smallest_job, weights_before
from franken_gguf.quantize.output.worker_memory import share_memory


@st.composite
def tensors(draw: st.DrawFn) -> list[MappedTensor]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        cols = draw(st.integers(1, 9))
        heads = draw(st.sampled_from([0, 0, 2, 3]))
        rows = draw(st.integers(1, 7)) * 2 * (heads or 1)
        matrices = 1 if heads else draw(st.integers(1, 3))
        starts = [draw(st.integers(0, 5)) for _ in range(matrices)]
        pieces = tuple(Piece(f"s{number}", start, start + rows) for start in starts)
        shape = (matrices, rows, cols) if matrices > 1 else (rows, cols)
        found.append(MappedTensor(f"t{number}", shape, pieces, heads))
    return found


@given(tensors(), st.integers(1, 200))
def test_the_jobs_of_a_model_are_its_rows_in_order(model: list[MappedTensor], size: int) -> None:
    expected = [
        (index, matrix, row)
        for index, tensor in enumerate(model)
        for matrix, piece in enumerate(tensor.pieces)
        for row in range(piece.start, piece.stop)
    ]
    found = list(jobs(model, size))
    assert [(j.index, j.matrix, row) for j in found for row in range(j.start, j.stop)] == expected
    for before, after in pairwise(found):
        assert before.end == (after.index, after.row) or after.row == 0
    for job in found:
        tensor = model[job.index]
        assert job.rows * tensor.cols <= max(size, smallest_job(tensor))
        if tensor.rotary_heads:
            assert job.rows % (tensor.rows // tensor.rotary_heads) == 0


@given(tensors(), st.integers(1, 200), st.integers(1, 200), st.data())
def test_work_resumes_at_any_job_and_with_jobs_of_another_size(
    model: list[MappedTensor], size: int, other: int, data: st.DataObject
) -> None:
    ends = [START, *(job.end for job in jobs(model, size))]
    since = data.draw(st.sampled_from(ends))
    rest = list(jobs(model, other, since))
    assert rest == [job for job in jobs(model, other) if job.end > since]
    total = weights_before(model, (len(model), 0))
    assert (
        weights_before(model, since)
        + sum(job.rows * model[job.index].cols for job in jobs(model, size, since))
        == total
    )


BIG = [MappedTensor("t", (8, 14336, 4096), tuple(Piece("s", 0, 14336) for _ in range(8)))]


@given(st.integers(1, 512), st.integers(40 << 20, 1 << 40))
def test_workers_and_jobs_never_take_more_than_the_memory_given(threads: int, budget: int) -> None:
    share = share_memory(BIG, threads, budget)
    assert 1 <= share.workers <= threads
    assert share.nbytes <= budget


def test_memory_for_all_gives_every_thread_a_worker_and_a_job_of_full_size() -> None:
    share = share_memory(BIG, 16, 1 << 30)
    assert (share.workers, share.job_weights) == (16, 1 << 20)


def test_choosing_codes_under_second_moments_takes_more_memory_so_jobs_are_smaller() -> None:
    plain, refining = (share_memory(BIG, 16, 1 << 30, refining=on) for on in (False, True))
    assert refining.job_weights < plain.job_weights
    assert refining.nbytes <= 1 << 30


def test_with_less_memory_jobs_shrink_first_then_workers_go() -> None:
    shares = [share_memory(BIG, 8, mebibytes << 20) for mebibytes in (320, 256, 100, 28)]
    assert [share.workers for share in shares] == [8, 8, 3, 1]
    assert shares[0].job_weights == 1 << 20
    assert shares[1].job_weights < 1 << 20


def test_memory_that_no_worker_could_work_in_is_refused_with_what_it_needs() -> None:
    with pytest.raises(OutputError, match=r"not enough for this model's rows; give 28MiB or more"):
        share_memory(BIG, 2, 1 << 20)
    heads = [MappedTensor("q", (4096, 4096), (Piece("s", 0, 4096),), rotary_heads=2)]
    with pytest.raises(OutputError, match="give 152MiB or more"):
        share_memory(heads, 2, 64 << 20)
