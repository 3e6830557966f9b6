"""The huggingface_hub library, which is optional: imported when needed, its errors as one line."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from franken_gguf.quantize.common.errors import FrankenError, HubError, shown
from franken_gguf.quantize.hub.hub_name import HubName

_TRUE = ("1", "ON", "YES", "TRUE")


def endpoint() -> str:
    """The address of the Hub, or of the mirror that HF_ENDPOINT names."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_offline() -> bool:
    """Whether the user has forbidden network requests, as huggingface_hub understands it."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in _TRUE


@contextmanager
def hub_errors(name: HubName) -> Iterator[None]:
    """Raise what huggingface_hub raises in the `with` block as a HubError that names the model."""
    if is_offline():
        raise HubError(f"{name}: HF_HUB_OFFLINE is set; unset it to download")
    try:
        # Optional, and slow to import.
        from huggingface_hub import errors  # noqa: PLC0415
        from huggingface_hub.utils.logging import set_verbosity  # noqa: PLC0415
        from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415
    except ImportError:
        raise HubError(
            f"{name}: downloading needs huggingface_hub; install it with "
            "pip install 'franken-gguf[hub]'"
        ) from None
    disable_progress_bars()  # we draw our own
    set_verbosity(logging.ERROR)
    try:
        yield
    except FrankenError:
        raise
    except errors.GatedRepoError:
        raise HubError(
            f"{name}: its authors want you to accept their terms first; do so at "
            f"{endpoint()}/{name.repository}, then set HF_TOKEN to your access token"
        ) from None
    except errors.RevisionNotFoundError:
        raise HubError(f"{name}: has no revision {name.revision!r}; check its spelling") from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"{name}: not found at {endpoint()}; check the name, or set HF_TOKEN if it is private"
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        hint = "check HF_TOKEN" if status in (401, 403) else "try again later"
        raise HubError(f"{name}: {endpoint()} answered with status {status}; {hint}") from None
    except Exception as error:  # of several HTTP libraries, by the version of huggingface_hub
        if isinstance(error, OSError) and error.errno is not None and error.strerror:
            reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        else:
            reason = shown(" ".join(str(error).split()) or type(error).__name__)[1:-1]
        raise HubError(
            f"{name}: downloading from {endpoint()} failed ({reason}); run the same command to "
            "resume"
        ) from None
