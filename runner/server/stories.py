"""Stories on disk, the files of `chat --session`: listed, begun, opened, changed and deleted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any

from franken_gguf.runner.chat.answer import now
from franken_gguf.runner.conversation.branches import fork, parents_of, tree
from franken_gguf.runner.conversation.conversation import NOTE, Conversation, Message
from franken_gguf.runner.conversation.export import FORMATS
from franken_gguf.runner.conversation.session import (
    Session,
    SessionInUse,
    Sessions,
    file_name,
    read_chat,
)
from franken_gguf.runner.conversation.session_format import SessionError
from franken_gguf.runner.conversation.swipes import with_shown
from franken_gguf.runner.story.author_note import Note, set_note
from franken_gguf.runner.story.persona import persona_named, persona_names
from franken_gguf.runner.story.saved_story import begin, files_of, keep_files_in, set_files
from franken_gguf.runner.story.story_changes import set_persona

from .bodies import Fields, wrong
from .library import Library
from .refusals import RequestError
from .story_view import revision, story_view

_ROLES = ("user", "assistant", NOTE)


class Stories:
    """The stories of a folder; `model` is named in the files, `system` begins new ones."""

    def __init__(self, sessions: Sessions, library: Library, model: str, system: str = "") -> None:
        self.library = library
        self.first_cards: tuple[Path, ...] = ()
        self.first_lorebooks: tuple[Path, ...] = ()
        self.first_user = ""
        self.first_persona: Path | None = None
        self.sessions = sessions
        self._model = model
        self._system = system

    def all(self) -> list[dict[str, Any]]:
        """Every story, the one changed last first."""
        above = dict(parents_of(self.sessions))
        return [
            {
                "name": one.name,
                "changed": one.changed.astimezone().isoformat(timespec="seconds"),
                "n_bytes": one.nbytes,
                "parent": above.get(one.name, ""),
            }
            for one in self.sessions.all()
        ]

    def view(self, name: str) -> dict[str, Any]:
        """A story as JSON. Raises RequestError, SessionError."""
        view: dict[str, Any] = story_view(name, self.read(name), tree(self.sessions, name))
        return view

    def read(self, name: str) -> Conversation:
        """A story's conversation. Raises RequestError, SessionError."""
        if not self._path(name).exists():
            raise _missing(name)
        return read_chat(self._path(name))

    def begin(self, fields: Fields) -> str:
        """Begin a story and return its name. Raises RequestError, StoryError, SessionError."""
        conversation = Conversation(fields.text("system") or self._system)
        cards = self._paths(fields, "cards", []) or self.first_cards
        lorebooks = self._paths(fields, "lorebooks", []) or self.first_lorebooks
        user = fields.text("user") or self.first_user
        persona = _persona(fields) or self.first_persona
        begin(conversation, cards, lorebooks, user, now(), persona)
        return self._save_new(fields.text("name"), conversation)

    def add_file(self, data: bytes, name: str) -> str:
        """A story from a file of SillyTavern's or ours; returns its name. Raises SessionError."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{file_name(name)}.jsonl"
            path.write_bytes(data)
            try:
                with self.sessions.import_file(path) as session:
                    conversation = session.read()
                    keep_files_in(conversation, self.library.folder)
                    session.save(conversation, self._model)
                    return session.name
            except SessionError as error:  # without the path here, which tells a client nothing
                raise RequestError(str(error).replace(str(path), path.name)) from None

    def export(self, name: str, form: str) -> str:
        """A story as the text of a file. Raises RequestError, SessionError."""
        write = FORMATS.get(f".{form}")
        if write is None:
            wrong("form", ", ".join(one[1:] for one in FORMATS))
        return write(self.read(name), name, self._model)

    def delete(self, name: str) -> None:
        """Delete a story. Raises RequestError."""
        with self.opened(name) as session:
            session.context_path.unlink(missing_ok=True)
            session.path.unlink(missing_ok=True)

    def set_facts(self, name: str, fields: Fields) -> str:
        """Change what a story says of itself; returns its name, which may be new."""
        with self.changing(name, fields) as conversation:
            conversation.system = fields.text("system", conversation.system)
            conversation.memory = fields.text("memory", conversation.memory)
            if fields.given("note"):
                note = fields.table("note")
                depth = note.within("depth", 4, 0, 9999)
                set_note(conversation, Note(note.text("text"), depth))
            cards, lorebooks = files_of(conversation)
            if fields.given("cards") or fields.given("lorebooks"):
                cards = self._paths(fields, "cards", cards) if fields.given("cards") else cards
                if fields.given("lorebooks"):
                    lorebooks = self._paths(fields, "lorebooks", lorebooks)
                set_files(conversation, cards, lorebooks)
            if fields.given("persona"):
                set_persona(conversation, _persona(fields))
            if fields.given("user"):
                begin(conversation, user=fields.text("user"), date=now())
        wanted = fields.text("name")
        return self._rename(name, wanted) if wanted and wanted != name else name

    def add_message(self, name: str, fields: Fields) -> None:
        """Add a message."""
        with self.changing(name, fields) as conversation:
            count = len(conversation.messages)
            place = fields.within("at", count, 0, count)
            conversation.messages.insert(place, _message(fields, "messages"))

    def change_message(self, name: str, place: int, fields: Fields) -> None:
        """Change a message's text, or turn to another of its swipes."""
        with self.changing(name, fields) as conversation:
            message = _at(conversation, place)
            if fields.given("swipe"):
                try:
                    message = with_shown(message, fields.within("swipe", 0, 0, 1 << 20))
                except IndexError:
                    wrong("swipe", "the number of an existing swipe")
            if fields.given("text"):
                message = replace(message, content=fields.text("text"))
            conversation.messages[place] = message

    def remove_message(self, name: str, place: int, fields: Fields, *, has_rest: bool) -> None:
        """Remove a message, and with `has_rest` all after it."""
        with self.changing(name, fields) as conversation:
            _at(conversation, place)
            end = len(conversation.messages) if has_rest else place + 1
            del conversation.messages[place:end]

    def replace_messages(self, name: str, fields: Fields) -> None:
        """Replace all messages' texts; what else is known of a message at its place stays."""
        with self.changing(name, fields) as conversation:
            after = []
            for place, one in enumerate(fields.items("messages")):
                if not isinstance(one, dict):
                    wrong(f"messages[{place}]", "an object with role and text")
                after.append(_message(Fields(one), f"messages[{place}]"))
            conversation.messages = _with_what_is_known(after, conversation.messages)

    def branch(self, name: str, fields: Fields) -> str:
        """Begin a story with the first messages of another; returns its name."""
        with self.opened(name) as session:
            conversation = session.read()
            place = fields.whole("at", len(conversation.messages) - 1)
            _at(conversation, place)
            new = file_name(fields.text("name") or self._free_name(name))
            with fork(self.sessions, session, conversation, new, self._model, place=place) as made:
                return made.name

    @contextmanager
    def changing(self, name: str, fields: Fields) -> Iterator[Conversation]:
        """A story's conversation, which is saved at the end. Raises RequestError."""
        with self.opened(name) as session:
            conversation = session.read()
            wanted = fields.text("revision")
            if wanted and wanted != revision(conversation):
                raise RequestError("the story has changed since; load it again", status=409)
            yield conversation
            conversation.forgotten = min(conversation.forgotten, len(conversation.messages))
            session.save(conversation, self._model)

    @contextmanager
    def opened(self, name: str) -> Iterator[Session]:
        """A story that is there, for us alone. Raises RequestError, SessionError."""
        if not self._path(name).exists():
            raise _missing(name)
        try:
            session = self.sessions.open(name)
        except SessionInUse as error:
            raise RequestError(str(error), status=409) from None
        with session:
            yield session

    def _path(self, name: str) -> Path:
        if file_name(name) != name:
            raise _missing(name)
        return self.sessions.folder / f"{name}.jsonl"

    def _save_new(self, wanted: str, conversation: Conversation) -> str:
        session = (
            self.sessions.open(file_name(wanted)) if wanted else self.sessions.open_new(self._model)
        )
        with session:
            if session.exists():
                raise RequestError(f"a story {session.name!r} exists already", status=409)
            session.save(conversation, self._model)
            return session.name

    def _rename(self, name: str, wanted: str) -> str:
        with self.opened(name) as session, self.sessions.open(file_name(wanted)) as target:
            if target.exists():
                raise RequestError(f"a story {target.name!r} exists already", status=409)
            session.path.replace(target.path)
            return target.name

    def _free_name(self, name: str) -> str:
        taken = {one.name for one in self.sessions.all()}
        return next(
            one for one in (f"{name} {n}" for n in range(2, 10_000)) if file_name(one) not in taken
        )

    def _paths(self, fields: Fields, kind: str, own: Sequence[Path]) -> list[Path]:
        """The files of ids: those of the library, and those that the story has."""
        known = {path.stem: path for path in own}
        shelf = self.library.cards if kind == "cards" else self.library.lorebooks
        return [known.get(number) or shelf.path(number) for number in fields.texts(kind)]


def _with_what_is_known(after: list[Message], before: list[Message]) -> list[Message]:
    """`after` with the dates, swipes and branches of `before`, whichever of it was replaced.

    The messages that both end with are the same even where others between were joined or removed.
    """

    def same(ahead: Sequence[Message], known: Sequence[Message]) -> int:
        pairs = zip(ahead, known, strict=False)
        alike = ((one.role, one.content) == (other.role, other.content) for one, other in pairs)
        return sum(1 for _ in takewhile(bool, alike))

    head = same(after, before)
    tail = same(after[head:][::-1], before[head:][::-1])
    middle = zip_longest(after[head : len(after) - tail], before[head : len(before) - tail])
    changed = [
        replace(known, content=message.content) if known and known.role == message.role else message
        for message, known in middle
        if message
    ]
    return [*before[:head], *changed, *before[len(before) - tail :]]


def _message(fields: Fields, name: str) -> Message:
    role = fields.text("role", "user")
    if role not in _ROLES:
        wrong(f"{name}.role" if name else "role", "user, assistant or note")
    extra = {"name": fields.text("name")} if fields.text("name") else {}
    return Message(role, fields.text("text"), now(), extra)


def _at(conversation: Conversation, place: int) -> Message:
    if not 0 <= place < len(conversation.messages):
        count = len(conversation.messages)
        raise RequestError(f"there is no message {place}; the story has {count}", status=404)
    return conversation.messages[place]


def _missing(name: str) -> RequestError:
    return RequestError(f"there is no story {name[:100]!r}", status=404)


def _persona(fields: Fields) -> Path | None:
    """The file of the persona that is asked for, which must be in the library; None for "".

    A path is not taken: a client must not make the server read any file.
    """
    name = fields.text("persona")
    path = persona_named(name)
    if name and path is None:
        wrong("persona", f"empty or a persona of the library ({', '.join(persona_names())})")
    return path
