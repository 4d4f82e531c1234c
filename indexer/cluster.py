"""A cluster, by Ray Data: a pool of actors, each with its own encoders and decoders.

Ray starts, feeds, restarts and scales the actors; images are read where they run, and what they give comes back to this
process, which alone writes. Imported only where ``--engine ray`` asks for it.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from iconicity.indexer.engine import Outcome, Plan, Start, Task, outcomes_known, units
from iconicity.indexer.errors import IconicityError, InputError

K = TypeVar("K")
NEEDS_RAY = "--engine ray needs Ray: pip install 'iconicity[ray]'"
_CONNECT_SECONDS = 10.0
_PASSED_ON = (
    "AWS_ENDPOINT_URL",
    "AWS_ALLOW_HTTP",
    "AWS_REGION",
)  # where storage is; credentials stay with each machine


@dataclass(frozen=True)
class ActorPool:
    """How many actors, and what each one takes of the cluster. ``most`` None: as many as the cluster has room for.

    ``gpus`` None: one where the cluster has any.
    """

    least: int = 1
    most: int | None = None
    cpus: float = 1.0
    gpus: float | None = None


class Cluster:
    """An engine on a Ray cluster: the one at ``address``, else one of this machine that ends with the run."""

    def __init__(self, start: Start, pool: ActorPool, address: str | None = None) -> None:
        self._start = start
        self._pool = pool
        self._address = address

    def run(self, plan: Plan, tasks: Iterable[Task[K]]) -> Iterator[tuple[K, Outcome]]:
        """Outcomes in no order. Raises :class:`InputError` without Ray, :class:`IconicityError` when the cluster gives up."""
        listed = list(tasks)
        known = outcomes_known(plan, listed)
        if known is not None:
            yield from known
            return
        _require_ray()
        import ray

        ours = _connect(self._address)
        try:
            yield from ((listed[i].key, outcome) for i, outcome in self._stream(plan, listed))
        except ray.exceptions.RayError as e:
            raise IconicityError(
                f"the Ray cluster cannot go on ({_last_line(e)}); run the same command again: what is written is kept"
            ) from e
        finally:
            if ours:
                ray.shutdown()

    def _stream(self, plan: Plan, listed: list[Task[K]]) -> Iterator[tuple[int, Outcome]]:
        import ray.data

        pool = self._pool
        gpus = pool.gpus if pool.gpus is not None else float(ray.cluster_resources().get("GPU", 0) > 0)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # ours is of images
        packed = [{"unit": pickle.dumps(unit)} for unit in units(listed)]
        rows = ray.data.from_items(packed, override_num_blocks=len(packed)).map_batches(
            _Actor,
            fn_constructor_args=(plan, self._start, "auto" if gpus else "cpu"),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=min(pool.least, len(packed)), max_size=pool.most),
            num_cpus=pool.cpus,
            num_gpus=gpus or None,
        )
        for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for data in batch.column("outcomes"):
                answer = pickle.loads(data.as_buffer())
                if isinstance(answer, Exception):
                    raise answer
                yield from answer


class _Actor:
    """Runs units where Ray put it. An error is an answer too: Ray would wrap it and try again."""

    def __init__(self, plan: Plan, start: Start, device: str) -> None:
        self._runner = start(plan, device)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        answers: list[object] = []
        for packed in batch["unit"]:
            try:
                answers.append(list(self._runner.stream(pickle.loads(packed))))
            except IconicityError as e:
                answers.append(e)
        return {"outcomes": [pickle.dumps(a) for a in answers]}


def _require_ray() -> None:
    try:
        import ray.data  # noqa: F401
    except ImportError as e:
        raise InputError(NEEDS_RAY) from e


def _connect(address: str | None) -> bool:
    """Join a cluster, or start one of this machine. Returns whether it is to be shut down. Raises :class:`InputError`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    if ray.is_initialized():
        return False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    address = address or os.environ.get("RAY_ADDRESS")
    _require_reachable(address)
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        with _no_chatter():
            if address is None:
                ray.init(address="local", include_dashboard=False, **quiet)
            else:
                ray.init(address=address, runtime_env={"env_vars": passed} if passed else None, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as e:
        where = "on this machine" if address is None else f"at {address}"
        raise InputError(f"no Ray cluster {where} ({_last_line(e)}); name one with --ray-address") from e
    return True


def _require_reachable(address: str | None) -> None:
    """Ray asks for minutes before it gives up. Raises :class:`InputError`."""
    host, colon, port = (address or "").rpartition("://")[2].rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as e:
        raise InputError(f"no Ray cluster at {address} ({e.strerror or e}); name one with --ray-address") from e


@contextmanager
def _no_chatter() -> Iterator[None]:
    """What Ray's native code prints while it starts is for nobody; errors come as exceptions."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # LanceDB's, of the fork by which Ray starts its servers
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:200]
