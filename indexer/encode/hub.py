"""Tell quickly whether a model hub can be reached, and which revision it gave. No message holds a token."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from iconicity.indexer.errors import ModelUnavailableError
from iconicity.indexer.text import counted

TIMEOUT_S = 10.0
_LISTED = 20  # tensors named in an error
# Secrets that a library may put into an error: a token, a signed address, a name and password before a host.
_SECRETS = (
    (re.compile(r"hf_[A-Za-z0-9_]{3,}"), "hf_***"),
    (re.compile(r"(?i)(bearer|basic)\s+\S+"), r"\1 ***"),
    (re.compile(r"(https?://)[^/\s@]*@"), r"\1***@"),
    (re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\")]*"), r"\1?***"),
)


def cause_of(error: BaseException, most: int = 160) -> str:
    """An error's text in one line, without tokens, passwords and signatures."""
    from huggingface_hub import get_token

    text = " ".join(str(error).split()) or type(error).__name__
    if token := get_token():
        text = text.replace(token, "***")
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text[:most]


def cached_commit(repo_id: str, filename: str, revision: str | None) -> str | None:
    """Commit of the revision (None: the default branch) of which a file is in the local cache; None: it is not there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo_id, filename, revision=revision)
    if not isinstance(found, str):
        return None
    parts = Path(found).parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None


def require_reachable(repo_id: str, filename: str, revision: str | None, ways_on: str) -> None:
    """Ask the hub for one file's metadata, once, for at most ``TIMEOUT_S`` seconds.

    Raises :class:`ModelUnavailableError` naming the model, the cause and the ways on. Without this question
    the loading libraries retry for minutes before they give up.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    at = "" if revision is None else f" at revision {revision}"
    try:
        get_hf_file_metadata(hf_hub_url(repo_id, filename, revision=revision), timeout=TIMEOUT_S)
    except Exception as e:  # the HTTP client behind the hub library differs by version, and so do its errors
        raise ModelUnavailableError(
            f"{repo_id}{at}: not in the local cache, and the model hub did not give it ({cause_of(e)}); {ways_on}"
        ) from None  # a chained traceback would show what cause_of leaves out


def require_fit(
    name: object, missing: Iterable[str], extra: Iterable[str], misshapen: Iterable[str], ways_on: str
) -> None:
    """Raise :class:`ModelUnavailableError` that lists missing, unknown and misshapen tensors of a checkpoint."""
    parts = [
        f"{counted(len(names), 'tensor')} {what}: {', '.join(names[:_LISTED])}"
        + (" ..." if len(names) > _LISTED else "")
        for what, names in (
            ("missing", sorted(missing)),
            ("unknown", sorted(extra)),
            ("of another shape", sorted(misshapen)),
        )
        if names
    ]
    if parts:
        raise ModelUnavailableError(f"{name}: does not fit the model: {'; '.join(parts)}; {ways_on}")
