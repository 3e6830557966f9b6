"""A model's repository on the Hub at one commit: its files, their checksums, its license."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from franken_gguf.quantize.common.errors import HubError
from franken_gguf.quantize.hub.hub_cache import COMMIT
from franken_gguf.quantize.hub.hub_name import HubName, is_safe

from .hub_client import endpoint, hub_errors

_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SECONDS = 30.0
_MOST_LICENSE = 60


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository."""

    name: str
    nbytes: int
    digest: str
    """In hexadecimal: SHA-256 of its content for a large file, else the SHA-1 of git's blob."""


@dataclass(frozen=True)
class Repository:
    """A repository at one commit."""

    name: HubName
    commit: str
    license: str
    """As the model card states it; "" if it does not."""
    files: dict[str, RemoteFile]
    """By name."""


def look_up(name: HubName) -> Repository:
    """Ask the Hub what the revision consists of. Raises HubError."""
    with hub_errors(name):
        from huggingface_hub import HfApi  # noqa: PLC0415 - optional

        api = HfApi(endpoint=endpoint(), library_name="franken-gguf")
        info = api.model_info(
            name.repository, revision=name.revision, files_metadata=True, timeout=_SECONDS
        )
    if not COMMIT.fullmatch(info.sha or ""):
        raise HubError(f"{name}: {endpoint()} named no commit; is it a Hugging Face Hub?")
    assert info.sha
    found = filter(None, map(_file, info.siblings or ()))
    return Repository(name, info.sha, _license(info), {file.name: file for file in found})


def _file(sibling: Any) -> RemoteFile | None:
    """The file, or None for what no model needs: an unsafe name, or no size or checksum."""
    digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    size = sibling.size
    if not (is_safe(sibling.rfilename) and _DIGEST.fullmatch(str(digest))):
        return None
    if type(size) is not int or size < 0:
        return None
    return RemoteFile(sibling.rfilename, size, digest)


def _license(info: Any) -> str:
    stated = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    name = getattr(info.card_data, "license_name", None)
    if stated == ["other"] and isinstance(name, str):
        stated = [name]
    return ", ".join(stated)[:_MOST_LICENSE]
