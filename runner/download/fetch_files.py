"""Fetches files of a repository into the Hub's cache: resumed, and compared with their checksums.

huggingface_hub's own download deletes an interrupted file and compares only its size. So a file is
fetched here through its HTTP client, into blobs/<checksum>.incomplete, and gets its place in the
cache once its content is right.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from franken_gguf.quantize.common.errors import HubError
from franken_gguf.quantize.common.files import replacing
from franken_gguf.quantize.hub.hub_cache import COMMIT, repository_folder

from .hub_client import endpoint, hub_errors
from .repository import RemoteFile, Repository

Report = Callable[[str, int], None]
"""Called with a file's name and how many more bytes of it there are; fewer after a restart."""

# huggingface_hub's limit for a plain HTTP download.
_MOST_BYTES = 50_000_000_000
_CHUNK = 1 << 22


def missing(repository: Repository, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Those of `files` that are not in the cache yet."""
    return [file for file in files if not _is_there(_place(repository, file), file)]


def fetch_files(repository: Repository, files: Sequence[RemoteFile], report: Report) -> None:
    """Fetch what is missing of `files`, and note in the cache which commit the revision is.

    An interrupted fetch is resumed by the next one. Raises HubError, OSError.
    """
    lacking = missing(repository, files)
    _check_room(repository, lacking)
    for file in lacking:
        fetch_file(repository, file, report)
    folder, revision = repository_folder(repository.name), repository.name.revision
    if not COMMIT.fullmatch(revision):
        ref = folder / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        with replacing(ref) as part:
            part.write_text(repository.commit)


def fetch_file(
    repository: Repository, file: RemoteFile, report: Report = lambda name, nbytes: None
) -> Path:
    """Fetch one file unless it is in the cache; return its path there."""
    place = _place(repository, file)
    if _is_there(place, file):
        return place
    blob = _blob(repository, file)
    blob.parent.mkdir(parents=True, exist_ok=True)
    with hub_errors(repository.name):
        folder = repository_folder(repository.name)
        lock = folder.parent / ".locks" / folder.name / f"{file.digest}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):  # as huggingface_hub itself, which may be fetching the same file
            if not _is_there(blob, file):
                _fetch_blob(repository, file, blob, report)
    _link(blob, place)
    return place


def _fetch_blob(repository: Repository, file: RemoteFile, blob: Path, report: Report) -> None:
    # Optional, and slow to import.
    from huggingface_hub import hf_hub_url  # noqa: PLC0415
    from huggingface_hub.file_download import http_get  # noqa: PLC0415
    from huggingface_hub.utils._headers import build_hf_headers  # noqa: PLC0415

    if file.nbytes > _MOST_BYTES:
        raise HubError(
            f"{repository.name}: {file.name} is larger than 50 GB; fetch it with "
            f"hf download {repository.name.repository} {file.name}"
        )
    name = repository.name.repository
    url = hf_hub_url(name, file.name, revision=repository.commit, endpoint=endpoint())
    part = blob.with_name(f"{blob.name}.incomplete")
    with _Measured(part, file, report) as stream:
        headers = build_hf_headers(library_name="franken-gguf")
        http_get(
            url,
            stream,
            resume_size=stream.tell(),
            headers={**headers, "Accept-Encoding": "identity"},
            expected_size=file.nbytes,
        )
    if _digest(part, file) != file.digest:
        part.unlink()
        raise HubError(
            f"{repository.name}: {file.name} arrived damaged (its checksum is wrong); run the same "
            "command to fetch it again"
        )
    part.replace(blob)


class _Measured(io.BufferedWriter):
    """A file that is appended to, reporting its growth, and never beyond the size announced."""

    def __init__(self, path: Path, file: RemoteFile, report: Report) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._file, self._report = file, report
        if self.tell() > file.nbytes:
            self.truncate(0)
        report(file.name, self.tell())

    # Of bytes alone, which is all that http_get writes.
    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        """Append `data`. Raises HubError if the server sends more than it announced."""
        if self.tell() + len(data) > self._file.nbytes:
            raise HubError(
                f"{self._file.name}: {endpoint()} sends more than the {self._file.nbytes:,} bytes "
                "that it announced; try again later"
            )
        self._report(self._file.name, len(data))
        return super().write(data)

    def truncate(self, size: int | None = None, /) -> int:
        """Cut the file off, for a server that starts it again."""
        self.flush()
        self._report(self._file.name, (self.tell() if size is None else size) - self._size())
        return super().truncate(size)

    def _size(self) -> int:
        return os.fstat(self.fileno()).st_size


def _digest(path: Path, file: RemoteFile) -> str:
    is_large = len(file.digest) == 64
    found = hashlib.sha256() if is_large else hashlib.sha1(b"blob %d\0" % file.nbytes)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def _place(repository: Repository, file: RemoteFile) -> Path:
    return repository_folder(repository.name) / "snapshots" / repository.commit / file.name


def _blob(repository: Repository, file: RemoteFile) -> Path:
    return repository_folder(repository.name) / "blobs" / file.digest


def _is_there(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and path.stat().st_size == file.nbytes


def _link(blob: Path, place: Path) -> None:
    """Give a blob its name, by a link or, where the system has none, by moving it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    try:
        place.symlink_to(os.path.relpath(blob, place.parent))
    except OSError:
        shutil.move(blob, place)


def _check_room(repository: Repository, files: Sequence[RemoteFile]) -> None:
    """Raise HubError if the disk is too small for what is missing of the files."""
    folder = repository_folder(repository.name)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    wanted = sum(file.nbytes - _size_of_part(repository, file) for file in files)
    if wanted > free:
        raise HubError(
            f"{repository.name}: {wanted:,} more bytes are needed in {folder}, but {free:,} are "
            "free; make room, or set HF_HOME to a folder on another disk"
        )


def _size_of_part(repository: Repository, file: RemoteFile) -> int:
    part = _blob(repository, file).with_name(f"{file.digest}.incomplete")
    return part.stat().st_size if part.is_file() else 0
