"""Locations: a local path, or a URL on object storage that is read and written through fsspec.

A URL is never a ``pathlib.Path``, which makes ``s3:/`` of ``s3://``. Nothing here knows what is stored. Credentials
come from the environment alone, as the clouds' own libraries read them.
"""

from __future__ import annotations

import errno
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from iconicity.indexer.errors import InputError, StorageError

EXTRAS = {"s3": "s3", "gs": "gs", "az": "az"}  # URL scheme -> the extra whose package reads it
CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
PROBE = ".probe-"  # objects that are written to see whether that can be done, and removed
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds, for a server that has answered before
_CONNECT_SECONDS, _READ_SECONDS = 5, 60
# Classes and codes by which the libraries of the clouds say the same; none of them is imported here.
_AWAY = {
    "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError", "HTTPClientError",
    "ConnectionError", "TimeoutError", "ClientConnectionError", "ClientOSError", "ServerDisconnectedError",
    "ServiceRequestError", "ServiceResponseError", "ClientPayloadError", "ResponseStreamingError", "TransportError",
}  # fmt: skip
_AWAY_CODES = {"500", "502", "503", "504", "InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout"}
_NO_CREDENTIALS = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound",
    "DefaultCredentialsError", "CredentialUnavailableError", "ClientAuthenticationError",
}  # fmt: skip
_FORBIDDEN_CODES = {
    "401", "403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken",
    "InvalidToken", "AllAccessDisabled", "AuthorizationFailure", "AuthenticationFailed",
}  # fmt: skip
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
T = TypeVar("T")


class Item(NamedTuple):
    """An object in a listing: its size in bytes, and a text that changes when the object is written again."""

    size: int
    identity: str


@dataclass(frozen=True, order=True)
class Remote:
    """An object, or all that lies below a prefix, by its URL; with the few methods of a Path that are needed there.

    Every method raises :class:`StorageError` when the storage cannot be reached, refuses, or has no such bucket, and
    FileNotFoundError when there is no such object.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.url}/{name}")

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0]

    @property
    def key(self) -> str:
        """Bucket and key."""
        return self.url.partition("://")[2]

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> Remote:
        return Remote(self.url.rpartition("/")[0])

    def read_bytes(self) -> bytes:
        return bytes(self._call(lambda fs: fs.cat_file(self.key)))

    def write_bytes(self, data: bytes, new: bool = False) -> None:
        """One put: all bytes or none. ``new``: raises FileExistsError where an object is already."""
        self._call(lambda fs: fs.pipe_file(self.key, data, mode="create" if new else "overwrite"))

    def unlink(self) -> None:
        self._call(lambda fs: fs.rm_file(self.key))

    def download(self, path: Path) -> None:
        """Copy the object to a local file."""
        self._call(lambda fs: fs.get_file(self.key, str(path)))

    def upload(self, path: Path) -> None:
        """Copy a local file to the object. Readers see the old or the new bytes."""
        self._call(lambda fs: fs.put_file(str(path), self.key))

    def is_file(self) -> bool:
        try:
            return bool(self._call(lambda fs: fs.info(self.key))["type"] == "file")
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Whether any object lies below this URL."""
        return bool(self.names())

    def names(self) -> list[str]:
        """Return the names directly below this URL, sorted."""
        try:
            found = self._call(lambda fs: fs.ls(self.key, detail=False))
        except FileNotFoundError:
            return []
        names = {str(path).rstrip("/").removeprefix(f"{self.key}/") for path in found}
        return sorted(n for n in names if n and "/" not in n)

    def files(self) -> dict[str, Item]:
        """Every object below by its relative key, in one listing."""
        found = self._call(lambda fs: fs.find(self.key, detail=True))
        return {
            path.removeprefix(f"{self.key}/"): _item(info)
            for path, info in found.items()
            if info["type"] == "file" and path.startswith(f"{self.key}/")
        }

    def probe(self, writing: bool = False) -> None:
        """See whether the place can be reached; with ``writing`` also whether it can be written to, and whether a put
        that asks for a new object is refused where there is one: two writers would otherwise undo each other's work.
        """
        if not writing:
            self.names()
            return
        probe = self / f"{PROBE}{uuid.uuid4().hex}"
        probe.write_bytes(b"1")
        try:
            probe.write_bytes(b"2", new=True)
        except FileExistsError:
            return
        finally:
            probe.unlink()
        raise StorageError(
            f"{self}: this storage ignores conditional writes (If-None-Match), so that two writers would overwrite each "
            "other's commits; use one that has them, or build on a local disk and copy the index"
        )

    def _call(self, do: Callable[[Any], T]) -> T:
        fs = _filesystem(self)
        known = (self.scheme, os.environ.get("AWS_ENDPOINT_URL"))
        for wait in (*(_WAITS if known in _reached else ()), None):
            try:
                found = do(fs)
            except FileExistsError:
                raise
            except Exception as e:  # each cloud's library has errors of its own
                if _names(e) & _NO_BUCKET:
                    raise StorageError(
                        f"{self}: there is no bucket '{self.key.partition('/')[0]}'; make it, or name another"
                    ) from e
                if isinstance(e, FileNotFoundError):
                    _reached.add(known)
                    raise FileNotFoundError(errno.ENOENT, "no such object", self.url) from e
                if wait is not None and _is_away(e):
                    time.sleep(wait)
                    continue
                raise StorageError(f"{self}: {_why(e, self.scheme)}") from e
            _reached.add(known)
            return found
        raise AssertionError("the last round returns or raises")


Place = Path | Remote
_reached: set[tuple[str, str | None]] = set()  # what has answered in this process
_named: dict[str, str] = {}  # local folders that stand for URLs


def is_url(text: str) -> bool:
    return _URL.match(text) is not None


def place(text: Place | str) -> Place:
    """Return a local path or a :class:`Remote`. Raises :class:`InputError` for a URL that is not of object storage."""
    if not isinstance(text, str):
        return text
    found = _URL.match(text)
    if found is None:
        return Path(text)
    scheme, bucket = found[1].lower(), text[found.end() :].partition("/")[0]
    if scheme not in EXTRAS:
        raise InputError(
            f"{text}: not a place that is known; name a folder, or a URL that begins with s3://, gs:// or az://"
        )
    if not bucket or "@" in bucket:
        raise InputError(
            f"{scheme}://{bucket.rpartition('@')[2]}: write {scheme}://BUCKET/PATH; credentials are taken from the environment"
        )
    return Remote(f"{scheme}://{text[found.end() :].rstrip('/')}")


def local(text: Path | str) -> Path:
    """Return a path of this machine. Raises :class:`InputError` for a URL."""
    if isinstance(text, str) and is_url(text):
        raise InputError(f"{text}: a URL; this takes a folder or file of this machine")
    return Path(text)


def stands_for(folder: Path, url: str) -> None:
    """Make messages name the URL in place of the local folder that holds copies of its files."""
    _named[str(folder)] = url


def named(text: str) -> str:
    """Return a text with URLs in place of the local folders that hold their copies."""
    for folder, url in _named.items():
        text = text.replace(folder, url)
    return text


def _filesystem(where: Remote) -> Any:
    options: dict[str, Any] = {"use_listings_cache": False}
    if where.scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        if (
            endpoint
            and endpoint.startswith("http://")
            and os.environ.get("AWS_ALLOW_HTTP", "").lower() not in ("1", "true")
        ):
            raise StorageError(
                f"{where}: the endpoint is plain http, which anybody on the way can read; set AWS_ALLOW_HTTP=true if that is meant"
            )
        timeouts = {
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": _READ_SECONDS,
            "retries": {"total_max_attempts": 2},
            "max_pool_connections": 32,
        }
        # An object is read by one request: by several it might be two objects, one written over the other.
        options |= {"endpoint_url": endpoint or None, "config_kwargs": timeouts, "max_concurrency": 1}
        if region := os.environ.get("AWS_REGION"):  # LanceDB's name for it; botocore has another
            options["client_kwargs"] = {"region_name": region}
    try:
        import fsspec

        found = fsspec.filesystem(where.scheme, **options)
        if where.scheme == "s3":
            found.retries = 1  # by s3fs, which multiply with botocore's: waiting for a server is done here
        return found
    except ImportError as e:
        raise StorageError(
            f"{where}: object storage needs a package that is not installed; pip install 'iconicity[{EXTRAS[where.scheme]}]'"
        ) from e
    except Exception as e:  # some look for credentials at once
        raise StorageError(f"{where}: {_why(e, where.scheme)}") from e


def _item(info: dict[str, Any]) -> Item:
    size = int(info["size"] or 0)
    etag = info.get("ETag") or info.get("etag") or ""
    times = (info.get(k) for k in ("LastModified", "last_modified", "updated", "mtime"))
    return Item(size, f"{etag}/{size}/{next((str(t) for t in times if t), '')}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _names(error: Exception) -> set[str]:
    """Classes of an error and its causes, and the codes they carry."""
    out: set[str] = set()
    for e in _chain(error):
        out |= {c.__name__ for c in type(e).__mro__}
        response = getattr(e, "response", None)
        if isinstance(response, dict):
            out |= {
                str(response.get("Error", {}).get("Code")),
                str(response.get("ResponseMetadata", {}).get("HTTPStatusCode")),
            }
        for attribute in ("status_code", "status", "code", "error_code"):
            with suppress(Exception):
                out.add(str(getattr(e, attribute)))
    return out


def _is_away(error: Exception) -> bool:
    return bool(_names(error) & (_AWAY | _AWAY_CODES))


def _why(error: Exception, scheme: str) -> str:
    """Return the fact and the fix for an error of a cloud's library."""
    names = _names(error)
    if names & _NO_CREDENTIALS:
        return f"no credentials were found; {CREDENTIALS[scheme]}"
    if names & _FORBIDDEN_CODES or isinstance(error, PermissionError):
        code = next(iter(sorted(n for n in names & _FORBIDDEN_CODES if not n.isdigit())), "403")
        return f"refused ({code}): these credentials may not do that here; name others, or have them allowed what docs/object-storage.md lists"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    if names & (_AWAY | _AWAY_CODES):
        return f"the server does not answer ({first}); see that it runs and AWS_ENDPOINT_URL is right, then run the same command again"
    return f"object storage: {first}; run the same command again"
