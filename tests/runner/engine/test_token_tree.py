"""Token sequences joined where they begin alike."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.engine.token_tree import Node, TokenTree

PATHS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=8)


def test_what_two_sequences_begin_with_is_in_the_tree_once() -> None:
    tree = TokenTree()
    assert tree.add([7, 8, 9], 0, (None, 0)) == [0, 1, 2]
    assert tree.missing([7, 8, 5], (None, 0)) == 1
    assert tree.add([7, 8, 5], 1, (None, 0)) == [0, 1, 3]
    assert tree.nodes == [Node(7, 0, [0, 1]), Node(8, 1, [0, 1]), Node(9, 2, [0]), Node(5, 2, [1])]


def test_continuations_of_different_sequences_share_nothing() -> None:
    tree = TokenTree()
    assert tree.add([7], 2, (0, 5)) == [0]
    assert tree.add([7], 3, (1, 5)) == [1]
    assert [node.position for node in tree.nodes] == [5, 5]


@given(PATHS)
def test_every_sequence_is_found_again_and_every_beginning_is_there_once(
    paths: list[list[int]],
) -> None:
    tree = TokenTree()
    for number, path in enumerate(paths):
        before, missing = len(tree.nodes), tree.missing(path, (None, 0))
        tree.add(path, number, (None, 0))
        assert len(tree.nodes) - before == missing
    for number, path in enumerate(paths):
        nodes = [node for node in tree.nodes if number in node.sequences]
        assert [node.token for node in nodes] == path
        assert [node.position for node in nodes] == list(range(len(path)))
    beginnings = {tuple(path[: n + 1]) for path in paths for n in range(len(path))}
    assert len(tree.nodes) == len(beginnings)
