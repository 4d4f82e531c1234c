"""Say quickly and clearly when a model hub cannot be reached."""

from __future__ import annotations

from iconicity.indexer.errors import ModelUnavailableError

TIMEOUT_S = 10.0


def is_cached(repo_id: str, filename: str) -> bool:
    """True when a file of a hub repository is in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repo_id, filename), str)


def require_reachable(repo_id: str, filename: str, ways_on: str) -> None:
    """Ask the hub for one file's metadata, once, for at most ``TIMEOUT_S`` seconds.

    Raises :class:`ModelUnavailableError` naming the model, the cause and the ways on. Without this question
    the loading libraries retry for minutes before they give up.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repo_id, filename), timeout=TIMEOUT_S)
    except Exception as e:  # the HTTP client behind the hub library differs by version, and so do its errors
        cause = " ".join(str(e).split())[:160] or type(e).__name__
        raise ModelUnavailableError(
            f"{repo_id}: not in the local cache, and the model hub did not give it ({cause}); {ways_on}"
        ) from e
