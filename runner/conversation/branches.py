"""The tree of saved chats: a branch is a chat of its own, whose file names its parent.

As in SillyTavern, `chat_metadata.main_chat` in a branch's first line is the name of its parent, and
the message at which it branched off lists it in `extra.branches` in the parent's file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

from .conversation import Conversation
from .session import Session, Sessions
from .session_format import PARENT, SessionError, parent

_MAX_HEAD = 1 << 22  # bytes of a file's first line, which can contain a character card


def fork(
    sessions: Sessions,
    session: Session,
    conversation: Conversation,
    name: str,
    model: str = "",
    *,
    place: int | None = None,
) -> Session:
    """Save `conversation`, which is `session`'s, as a new one that branches from a message of it.

    That is the message at `place`, by default the last; the branch has none after it.

    The branch is written first and names its parent, so whatever fails, a branch that exists is
    complete. Its name is added to the last message of `conversation`. Raises SessionError.
    """
    branch = sessions.open(name)
    try:
        if branch.exists():
            raise SessionError(
                f"a session {branch.name!r} already exists; choose another name for the branch"
            )
        last = len(conversation.messages) - 1 if place is None else place
        forked = deepcopy(conversation)
        del forked.messages[last + 1 :]
        forked.forgotten = min(forked.forgotten, last + 1)
        metadata = {**forked.extra_fields.get("chat_metadata", {}), PARENT: session.name}
        forked.extra_fields = {**forked.extra_fields, "chat_metadata": metadata}
        branch.save(forked, model)
        _list_branch(conversation, last, branch.name)
        session.save(conversation, model)
    except SessionError:
        branch.close()
        raise
    return branch


def _list_branch(conversation: Conversation, place: int, name: str) -> None:
    last = conversation.messages[place]
    extra = last.extra_fields.get("extra")
    extra = extra if isinstance(extra, dict) else {}
    known = extra.get("branches")
    branches = [*(known if isinstance(known, list) else []), name]
    kept = {**last.extra_fields, "extra": {**extra, "branches": branches}}
    conversation.messages[place] = replace(last, extra_fields=kept)


def tree(sessions: Sessions, name: str) -> list[tuple[int, str]]:
    """Depth and name of all chats in the tree that contains `name`, each after its parent.

    A branch whose parent does not exist is a root; a circle of parents is cut.
    """
    parents = {name: "", **dict(parents_of(sessions))}
    root, above = name, [name]
    while parents[root] in parents and parents[root] not in above:
        root = parents[root]
        above.append(root)
    children = defaultdict(list)
    for child, above_it in sorted(parents.items(), reverse=True):
        children[above_it].append(child)
    found: list[tuple[int, str]] = []
    waiting, seen = [(0, root)], {root}
    while waiting:
        depth, current = waiting.pop()
        found.append((depth, current))
        waiting += [(depth + 1, child) for child in children[current] if child not in seen]
        seen.update(children[current])
    return found


def parents_of(sessions: Sessions) -> Iterator[tuple[str, str]]:
    """The name of each session, and of the one that it branched from, "" where there is none."""
    for listed in sessions.all():
        try:
            with (sessions.folder / f"{listed.name}.jsonl").open("rb") as file:
                yield listed.name, parent(file.readline(_MAX_HEAD).decode(errors="replace"))
        except OSError:
            continue
