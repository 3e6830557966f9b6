"""Names of models on the Hugging Face Hub.

They are org/name, org/name@revision, org/name:QUANT as in llama.cpp, and hf:org/name/file.gguf.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PART = r"\w(?:[\w.-]{0,94}\w)?"
_REPOSITORY = rf"({_PART}/{_PART})"
_BRANCH = r"[\w.-]{1,128}"
_QUANT = r"(?::(\w{1,32}))?"
_PLAIN = re.compile(rf"{_REPOSITORY}(?:@({_BRANCH}(?:/{_BRANCH}){{0,4}}))?{_QUANT}()", re.ASCII)
# Path("hf://org/name") has one slash. A branch with a slash would be taken for a file, except for
# those that the Hub itself makes.
_PREFIXED = re.compile(
    rf"hf:/{{0,2}}{_REPOSITORY}(?:@(refs/(?:pr|convert)/{_BRANCH}|{_BRANCH}))?{_QUANT}(?:/(.+))?",
    re.ASCII,
)
# org/name.gguf without "hf:" is a path.
_FILE_SUFFIXES = (".gguf", ".yml", ".yaml", ".json", ".safetensors", ".bin", ".dat", ".txt")
_FORBIDDEN = ("..", "--")
MAIN = "main"
"""The branch that a name without a revision means."""


@dataclass(frozen=True)
class HubName:
    """A model on the Hub: a repository, a revision of it and, of several, a file in it."""

    repository: str
    """As in org/name."""
    revision: str = MAIN
    """A branch, a tag or a commit."""
    file: str = ""
    """A path inside the repository; "" if the name leaves that open."""
    quant: str = ""
    """The quant of its GGUF file that is meant, as in Q4_K_M; "" if the name leaves that open."""

    @property
    def short(self) -> str:
        """The name without the organization, which a folder of the model would have."""
        return self.repository.partition("/")[2]

    def __str__(self) -> str:
        revision = "" if self.revision == MAIN else f"@{self.revision}"
        whole = f"{self.repository}{revision}{self.quant and f':{self.quant}'}"
        return f"hf:{whole}/{self.file}" if self.file else whole


def hub_name(text: str) -> HubName | None:
    """The name that `text` can be, or None for what can only be a path."""
    found = _PREFIXED.fullmatch(text)
    if found is None and not text.lower().endswith(_FILE_SUFFIXES):
        found = _PLAIN.fullmatch(text)
    if found is None:
        return None
    repository, revision, quant, file = found.groups()
    if any(part in repository for part in _FORBIDDEN) or ".." in (revision or ""):
        return None
    if file and (quant or not is_safe(file)):
        return None
    return HubName(repository, revision or MAIN, file or "", quant or "")


def is_safe(file: str) -> bool:
    """Whether an untrusted path of a file stays inside the folder that it is joined to."""
    parts = file.split("/")
    return (
        len(file) <= 255
        and file.isprintable()
        and not any(part in ("", ".", "..") for part in parts)
        and not any(character in file for character in '\\:*?"<>|')
    )
