"""Token sequences as a tree: what several of them begin with is in it once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Node(NamedTuple):
    """A token to evaluate."""

    token: int
    position: int
    """In its sequences."""
    sequences: list[int]
    """The ids of all sequences that it belongs to."""


class TokenTree:
    """Sequences of tokens, joined where they begin alike."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        """Every token after the one before it in its sequences."""
        self._children: dict[tuple[object, int], int] = {}
        """From a node's index, or the root of a tree, and a token to the index of the next node."""

    def add(self, tokens: Sequence[int], sequence: int, root: tuple[object, int]) -> list[int]:
        """Add a sequence and return the indices of its nodes.

        Sequences of the same `root` begin alike: in what they continue, whose length is `root[1]`.
        """
        place: object = root
        path = []
        for position, token in enumerate(tokens, root[1]):
            node = self._children.setdefault((place, token), len(self.nodes))
            if node == len(self.nodes):
                self.nodes.append(Node(token, position, []))
            self.nodes[node].sequences.append(sequence)
            path.append(node)
            place = node
        return path

    def missing(self, tokens: Sequence[int], root: tuple[object, int]) -> int:
        """How many nodes `add` would create."""
        place: object = root
        for count, token in enumerate(tokens):
            node = self._children.get((place, token))
            if node is None:
                return len(tokens) - count
            place = node
        return 0
