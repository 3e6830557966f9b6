"""Sessions on disk: a file for each in the data folder, saved whole after every turn."""

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
from .session_format import SessionError, decode, encode

MAX_BYTES = 1 << 25
_SUFFIX = ".jsonl"
_MAX_NAME = 80


class SessionInUse(SessionError):  # noqa: N818 - it is no mistake
    """Another chat has the session."""


def data_folder() -> Path:
    """Where this user's sessions and history are, by their platform's custom."""
    return user_data_path("franken-gguf", appauthor=False)


def make_private(folder: Path) -> None:
    """Make a folder for its owner alone. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


@dataclass(frozen=True)
class Listed:
    """A session in the folder, for a list."""

    name: str
    changed: datetime
    nbytes: int


class Sessions:
    """The folder of all sessions; `folder` is the user's own where none is given."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = data_folder() / "sessions" if folder is None else folder

    def all(self) -> list[Listed]:
        """All sessions, the one changed last first."""
        found = []
        for path in self.folder.glob(f"[!.]*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                state = path.stat()
                changed = datetime.fromtimestamp(state.st_mtime)
                found.append(Listed(path.stem, changed, state.st_size))
        return sorted(found, key=lambda listed: listed.changed, reverse=True)

    def open(self, name: str) -> Session:
        """The session of that name, there or not yet, for us alone until it is closed.

        Raises SessionError where another chat has it, or where no name is left of `name`.
        """
        return Session(self.folder, file_name(name))

    def open_saved(self, name: str | None = None) -> Session:
        """The session of that name, or the one saved last. Raises SessionError."""
        if name is None:
            listed = self.all()
            if not listed:
                raise SessionError(f"{self.folder}: no chat is saved yet")
            name = listed[0].name
        session = self.open(name)
        if not session.exists():
            session.close()
            raise SessionError(f"{session.path}: no chat of this name; /sessions lists them")
        return session

    def open_new(self, model: str) -> Session:
        """A session named after the time and the model. Raises SessionError."""
        return self._unused(f"{datetime.now():%Y-%m-%d %H.%M.%S} {model.removesuffix('.gguf')}")

    def import_file(self, path: Path, name: str | None = None) -> Session:
        """A new session with the chat of a file of SillyTavern's or ours.

        It has the file's name where it is given none, with a number where that is taken. Raises
        SessionError; no session is begun then.
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
                raise SessionError(f"there is a session {session.name!r} already; name another")
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
        raise SessionError(f"{self.folder}: too many chats are called {name!r}; name this one")


class Session:
    """One session's file and the lock on it. Close it, or use it in a `with` statement."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.path = folder / (name + _SUFFIX)
        self._saved = ""
        self._lock = FileLock(folder / f".{name}.lock", timeout=0, mode=0o600)
        try:
            make_private(folder)
            self._lock.acquire()
        except Timeout:
            raise SessionInUse(
                f"session {name!r} is open in another chat; leave that one, or take another name"
            ) from None
        except OSError as error:
            raise SessionError(f"{self.path}: cannot be opened: {error.strerror}") from None

    def exists(self) -> bool:
        """Whether it was ever saved."""
        return self.path.exists()

    def read(self) -> Conversation:
        """Its conversation, an empty one where it was never saved. Raises SessionError."""
        try:
            conversation = read_chat(self.path)
        except FileNotFoundError:
            return Conversation(
                extra_fields={"create_date": f"{datetime.now():%Y-%m-%d@%Hh%Mm%Ss}"}
            )
        except SessionError as error:
            raise SessionError(
                f"{error}; the file stays as it is, --session NAME begins another"
            ) from None
        self._saved = encode(conversation)
        return conversation

    def save(self, conversation: Conversation, model: str = "") -> None:
        """Replace its file by this conversation, at once or not at all. Raises SessionError.

        `model` is named in the file for those who look into it.
        """
        said = encode(conversation)
        if said == self._saved:
            return
        try:
            with replacing(self.path) as part:
                part.write_bytes(encode(conversation, model).encode(errors="replace"))
        except OSError as error:
            raise SessionError(f"{self.path}: not saved: {error.strerror}") from None
        self._saved = said

    @property
    def context_path(self) -> Path:
        """Where prompt_cache.py saves its evaluated context."""
        return self.path.with_name(f".{self.name}.kv")

    def close(self) -> None:
        """Let another chat have it."""
        self._lock.release()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_chat(path: Path) -> Conversation:
    """The conversation in a chat's file. Raises SessionError, FileNotFoundError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SessionError(f"it is larger than {MAX_BYTES >> 20} MiB")
        return decode(data.decode())
    except UnicodeDecodeError:
        reason = "it is no UTF-8 text"
    except SessionError as error:
        reason = str(error)
    raise SessionError(f"{path}: {reason}")


def replacing(path: Path) -> AbstractContextManager[Path]:
    """files.replacing for a private file (mode 0600) that survives a power cut."""
    return files.replacing(path, mode=0o600, fsync=True)


def file_name(name: str) -> str:
    """`name` as a file's in one folder: letters, digits and a few marks, no path, no hidden file.

    Raises SessionError where nothing is left of it.
    """
    name = unicodedata.normalize("NFC", name.encode(errors="replace").decode())
    name = re.sub(r"[^\w .()'-]+", "_", name).strip(" .")[:_MAX_NAME].strip(" .")
    # File systems count bytes, 255 for most; the lock's and the cache's names are longer.
    while len(name.encode()) > 180:
        name = name[:-1]
    if not name.strip("_"):
        raise SessionError("a session's name needs a letter or a digit")
    if re.fullmatch(r"(?i)con|prn|aux|nul|(com|lpt)\d", name.partition(".")[0].strip()):
        name = "_" + name  # devices on Windows, in every folder
    return name
