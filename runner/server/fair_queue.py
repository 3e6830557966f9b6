"""A queue in which clients take turns: many requests of one do not delay another's. Pure."""

from __future__ import annotations

from collections import deque
from itertools import zip_longest
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items by client: each client's in their order, one of each client in turn."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Item]] = {}
        """The client whose turn is next comes first."""

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, client: str, item: Item) -> None:
        """Append an item of `client`."""
        self._waiting.setdefault(client, deque()).append(item)

    def next(self) -> Item | None:
        """Remove and return the next item; None if the queue is empty."""
        if not self._waiting:
            return None
        client = next(iter(self._waiting))
        items = self._waiting.pop(client)
        item = items.popleft()
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
