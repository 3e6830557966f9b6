"""The queue of requests: clients take turns."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.server.fair_queue import FairQueue


def emptied(queue: FairQueue[str]) -> list[str]:
    found = []
    while (item := queue.next()) is not None:
        found.append(item)
    return found


def test_a_client_with_many_requests_delays_another_by_one() -> None:
    queue = FairQueue[str]()
    for item in ("a1", "a2", "a3"):
        queue.add("a", item)
    queue.add("b", "b1")
    assert queue.in_order() == ["a1", "b1", "a2", "a3"]
    assert emptied(queue) == ["a1", "b1", "a2", "a3"]


def test_a_removed_request_is_never_next() -> None:
    queue = FairQueue[str]()
    queue.add("a", "a1")
    queue.add("b", "b1")
    assert queue.remove("a1")
    assert not queue.remove("a1")
    assert len(queue) == 1
    assert emptied(queue) == ["b1"]


@given(st.lists(st.sampled_from("abcd")))
def test_the_order_is_told_as_it_comes_and_no_client_is_served_twice_while_another_waits(
    clients: list[str],
) -> None:
    queue = FairQueue[str]()
    for number, client in enumerate(clients):
        queue.add(client, f"{client}{number}")
    told = queue.in_order()
    assert told == emptied(queue)
    assert sorted(told) == sorted(f"{client}{number}" for number, client in enumerate(clients))
    served = Counter[str]()
    for item in told:
        left = {one for one in served | Counter(set(clients)) if served[one] < clients.count(one)}
        assert served[item[0]] == min(served[one] for one in left)
        served[item[0]] += 1
