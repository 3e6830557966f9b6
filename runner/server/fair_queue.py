"""A queue in which clients take turns: many requests of one do not delay another's. Pure."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from itertools import zip_longest
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items by client, one of each client in turn.

    A client's own items are in the order they came, those that are `urgent` before the others.
    """

    def __init__(self, urgent: Callable[[Item], bool] = lambda _: False) -> None:
        self._urgent = urgent
        self._waiting: dict[str, list[Item]] = {}
        """The client whose turn is next comes first."""

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, client: str, item: Item) -> None:
        """Append an item of `client`."""
        items = self._waiting.setdefault(client, [])
        insort(items, item, key=lambda one: not self._urgent(one))

    def has_urgent(self, client: str) -> bool:
        """Whether an urgent item of `client` waits."""
        return any(map(self._urgent, self._waiting.get(client, ())[:1]))

    def next(self) -> Item | None:
        """Remove and return the next item; None if the queue is empty."""
        if not self._waiting:
            return None
        client = next(iter(self._waiting))
        items = self._waiting.pop(client)
        item = items.pop(0)
        if items:
            self._waiting[client] = items
        return item

    def remove(self, item: Item) -> bool:
        """Remove an item; False if it is not in the queue."""
        for client, items in self._waiting.items():
            if item in items:
                items.remove(item)
                if not items:
                    del self._waiting[client]
                return True
        return False

    def in_order(self) -> list[Item]:
        """All items as `next` would return them."""
        rounds = zip_longest(*self._waiting.values(), fillvalue=None)
        return [item for one in rounds for item in one if item is not None]
