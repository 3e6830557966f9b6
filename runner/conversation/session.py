"""Saved chats: one file per session in the data folder, rewritten after every turn."""

from __future__ import annotations

import re
import unicodedata
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_data_path

from franken_gguf.quantize.common import files

from .conversation import Conversation
from .session_format import SessionError, decode, encode, without_cut_line

MAX_BYTES = 1 << 25
_SUFFIX = ".jsonl"
_MAX_NAME = 80


class SessionInUse(SessionError):  # noqa: N818 - a state, not a mistake
    """The session is open in another chat."""


def data_folder() -> Path:
    """The platform's folder for this user's sessions and input history."""
    return user_data_path("franken-gguf", appauthor=False)


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can read. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


@dataclass(frozen=True)
class Listed:
    """An entry in the list of sessions."""

    name: str
    changed: datetime
    nbytes: int


class Sessions:
    """The folder of all sessions, by default in `data_folder`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = data_folder() / "sessions" if folder is None else folder

    def all(self) -> list[Listed]:
        """All sessions, the latest first."""
        found = []
        for path in self.folder.glob(f"[!.]*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                state = path.stat()
                changed = datetime.fromtimestamp(state.st_mtime)
                found.append(Listed(path.stem, changed, state.st_size))
        return sorted(found, key=lambda listed: listed.changed, reverse=True)

    def open(self, name: str) -> Session:
        """Open the session `name`, which need not exist yet, and lock it until it is closed.

        Raises SessionError if it is open in another chat, and for a `name` that no saved session
        has and that file_name would change.
        """
        if all(name != listed.name for listed in self.all()):
            name = _unchanged(name)
        return Session(self.folder, name)

    def open_saved(self, name: str | None = None) -> Session:
        """Open an existing session, by default the latest. Raises SessionError."""
        if name is None:
            listed = self.all()
            if not listed:
                raise SessionError(f"{self.folder}: no chat is saved yet")
            name = listed[0].name
        session = self.open(name)
        if not session.exists():
            session.close()
            raise SessionError(f"{session.path}: no such chat; /sessions lists the saved chats")
        return session

    def open_new(self, model: str) -> Session:
        """Open a new session named after the time and the model. Raises SessionError."""
        return self._unused(f"{datetime.now():%Y-%m-%d %H.%M.%S} {model.removesuffix('.gguf')}")

    def import_file(self, path: Path, name: str | None = None) -> Session:
        """Start a session from a chat file, SillyTavern's or ours.

        Its default name is the file's, with a number if that is taken. Raises SessionError; then
        no session is created.
        """
        if path.exists() and not path.is_file():
            raise SessionError(f"{path}: is not a file")  # a pipe would never end
        try:
            conversation = read_chat(path)
        except OSError as error:
            raise SessionError(f"{path}: {error.strerror}") from None
        session = self._unused(path.stem) if name is None else self.open(name)
        try:
            if session.exists():
                raise SessionError(
                    f"a session {session.name!r} already exists; choose another name"
                )
            session.save(conversation)
        except SessionError:
            session.close()
            raise
        return session

    def _unused(self, name: str) -> Session:
        name = file_name(name)
        for number in range(1, 100):
            with suppress(SessionInUse):
                session = Session(self.folder, name if number == 1 else f"{name} {number}")
                if not session.exists():
                    return session
                session.close()
        raise SessionError(f"{self.folder}: too many chats are named {name!r}; give --session NAME")


class Session:
    """One session's file and the lock on it. Close it, or use it in a `with` statement."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.path = folder / (name + _SUFFIX)
        self.remark = ""
        """A line for the user about what was read, "" if there is nothing to report."""
        self._saved = ""
        self._lock = FileLock(folder / f".{name}.lock", timeout=0, mode=0o600)
        try:
            make_private(folder)
            self._lock.acquire()
        except Timeout:
            raise SessionInUse(
                f"session {name!r} is open in another chat; leave that chat or choose another name"
            ) from None
        except OSError as error:
            raise SessionError(f"{self.path}: cannot be opened: {error.strerror}") from None

    def exists(self) -> bool:
        """Whether it has been saved."""
        return self.path.exists()

    def read(self) -> Conversation:
        """The saved conversation, or an empty one. Raises SessionError.

        Without its last line if that was not written to its end, as when the power fails; then
        the file is also kept as it was, under another name, and `remark` names that.
        """
        try:
            conversation = read_chat(self.path)
        except FileNotFoundError:
            return Conversation(
                extra_fields={"create_date": f"{datetime.now():%Y-%m-%d@%Hh%Mm%Ss}"}
            )
        except SessionError as error:
            repaired = self._without_cut_line()
            if repaired is None:
                raise SessionError(
                    f"{error}; the file is unchanged, --session NAME starts another chat"
                ) from None
            return repaired
        self._saved = encode(conversation)
        return conversation

    def _without_cut_line(self) -> Conversation | None:
        data = _read(self.path)
        # A character that is cut in two is in the last line: no other can end without a newline.
        text = without_cut_line(data.decode(errors="surrogateescape"))
        if text is None:
            return None
        try:
            conversation = decode(text.encode(errors="surrogateescape").decode(), is_cut=True)
        except (SessionError, UnicodeDecodeError):
            return None
        backup = self._back_up(data)
        self.remark = (
            f"{self.path}: its last line is damaged and was left out; the "
            f"{len(conversation.messages)} messages before it are intact; {backup.name} in the "
            "same folder is a copy of the damaged file"
        )
        return conversation

    def _back_up(self, data: bytes) -> Path:
        """Write `data` beside the file, under a name that is unused or has it already."""
        for number in range(1, 100):
            backup = self.path.with_name(f"{self.path.name}.damaged{number}")
            try:
                if not backup.exists():
                    with replacing(backup) as part:
                        part.write_bytes(data)
                    return backup
                if backup.read_bytes() == data:
                    return backup
            except OSError as error:
                raise SessionError(f"{backup}: not saved: {error.strerror}") from None
        raise SessionError(f"{self.path}: there are too many {self.path.name}.damaged files")

    def save(self, conversation: Conversation, model: str = "") -> None:
        """Replace the file by this conversation, in one step. Raises SessionError.

        `model` is recorded in the file for information.
        """
        text = encode(conversation)
        if text == self._saved:
            return
        try:
            with replacing(self.path) as part:
                part.write_bytes(encode(conversation, model).encode(errors="replace"))
        except OSError as error:
            raise SessionError(f"{self.path}: not saved: {error.strerror}") from None
        self._saved = text

    @property
    def context_path(self) -> Path:
        """The file in which prompt_cache.py saves the evaluated context."""
        return self.path.with_name(f".{self.name}.kv")

    def close(self) -> None:
        """Release the lock, so that another chat can open the session."""
        self._lock.release()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_chat(path: Path) -> Conversation:
    """The conversation in a chat file. Raises SessionError, FileNotFoundError."""
    try:
        return decode(_read(path).decode())
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except SessionError as error:
        reason = str(error)
    raise SessionError(f"{path}: {reason}")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise SessionError(f"it is larger than {MAX_BYTES >> 20} MiB")
    return data


def replacing(path: Path) -> AbstractContextManager[Path]:
    """files.replacing for a private file (mode 0600) that survives a power failure."""
    return files.replacing(path, mode=0o600, fsync=True)


def _unchanged(name: str) -> str:
    """`name`, normalized. Raises SessionError if it is not a safe file name."""
    safe = file_name(name)
    if safe != unicodedata.normalize("NFC", name):
        raise SessionError(
            f"{name!r} cannot be a session's name; use at most {_MAX_NAME} letters, digits, "
            f"spaces and ()'-_. without a space or a dot at either end, as in {safe!r}"
        )
    return safe


def file_name(name: str) -> str:
    """`name` as a safe file name: letters, digits and a few marks; no path, no hidden file.

    Raises SessionError if that leaves nothing.
    """
    name = unicodedata.normalize("NFC", name.encode(errors="replace").decode())
    name = re.sub(r"[^\w .()'-]+", "_", name).strip(" .")[:_MAX_NAME].strip(" .")
    # Most file systems allow 255 bytes; the names of the lock and of the cache are longer.
    while len(name.encode()) > 180:
        name = name[:-1]
    if not name.strip("_"):
        raise SessionError("a session name needs a letter or a digit")
    if re.fullmatch(r"(?i)con|prn|aux|nul|(com|lpt)\d", name.partition(".")[0].strip()):
        name = "_" + name  # these are devices on Windows, in every folder
    return name
