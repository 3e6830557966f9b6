"""The tree of saved chats: a branch is a chat of its own, whose file names the one it left.

As SillyTavern has it: `chat_metadata.main_chat` in a branch's first line is the name of the chat
that it branched from, and there the message it left at lists its branches in `extra.branches`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

from .conversation import Conversation
from .session import Session, Sessions
from .session_format import PARENT, SessionError, parent

_MAX_HEAD = 1 << 22  # of a file's first line; a character card may be in it


def fork(
    sessions: Sessions, session: Session, conversation: Conversation, name: str, model: str = ""
) -> Session:
    """Save `conversation`, which is `session`'s, as a new one that branches from its last message.

    Both files are as they were, or the branch is whole: it is written first, and names its parent.
    `conversation` gets the note of its branch. Raises SessionError.
    """
    branch = sessions.open(name)
    try:
        if branch.exists():
            raise SessionError(
                f"there is a session {branch.name!r} already; take another name for the branch"
            )
        forked = deepcopy(conversation)
        metadata = {**forked.extra_fields.get("chat_metadata", {}), PARENT: session.name}
        forked.extra_fields = {**forked.extra_fields, "chat_metadata": metadata}
        branch.save(forked, model)
        _note_branch(conversation, branch.name)
        session.save(conversation, model)
    except SessionError:
        branch.close()
        raise
    return branch


def _note_branch(conversation: Conversation, name: str) -> None:
    last = conversation.messages[-1]
    extra = last.extra_fields.get("extra")
    extra = extra if isinstance(extra, dict) else {}
    known = extra.get("branches")
    branches = [*(known if isinstance(known, list) else []), name]
    kept = {**last.extra_fields, "extra": {**extra, "branches": branches}}
    conversation.messages[-1] = replace(last, extra_fields=kept)


def tree(sessions: Sessions, name: str) -> list[tuple[int, str]]:
    """All chats of the tree that `name` is in, each after its parent, with its depth.

    A parent that is not there makes its branch a root; parents in a circle are no tree, and end.
    """
    parents = {name: "", **dict(_parents(sessions))}
    root, above = name, [name]
    while parents[root] in parents and parents[root] not in above:
        root = parents[root]
        above.append(root)
    children = defaultdict(list)
    for child, of in sorted(parents.items(), reverse=True):
        children[of].append(child)
    found: list[tuple[int, str]] = []
    waiting, met = [(0, root)], {root}
    while waiting:
        depth, one = waiting.pop()
        found.append((depth, one))
        waiting += [(depth + 1, child) for child in children[one] if child not in met]
        met.update(children[one])
    return found


def _parents(sessions: Sessions) -> Iterator[tuple[str, str]]:
    for listed in sessions.all():
        try:
            with (sessions.folder / f"{listed.name}.jsonl").open("rb") as file:
                yield listed.name, parent(file.readline(_MAX_HEAD).decode(errors="replace"))
        except OSError:
            continue
