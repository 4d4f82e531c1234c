"""A cluster, by Ray Data: a pool of actors, each with its own encoders and decoders.

Ray starts, feeds, restarts and scales the actors; images are read where they run, and what they give comes back to this
process, which alone writes. Imported only where it is asked for.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from iconicity.indexer.encode.engine import Outcome, Plan, Start, Task, Unit, in_units
from iconicity.indexer.errors import IconicityError, InputError

K = TypeVar("K")
NEEDS_RAY = "`engine` ray needs Ray: pip install 'iconicity[ray]'"
_CONNECT_SECONDS = 10.0
# Where storage is; credentials stay with each machine.
_PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", "AWS_REGION")
_QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}


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
    """An engine on a Ray cluster: the one at ``ray_address``, else one of this machine that ends with the run."""

    def __init__(self, start: Start, pool: ActorPool, ray_address: str | None = None) -> None:
        self._start = start
        self._pool = pool
        self._address = ray_address

    def run(self, plan: Plan, tasks: Iterable[Task[K]]) -> Iterator[tuple[K, Outcome]]:
        """Outcomes in no order. Raises :class:`InputError` without Ray, :class:`IconicityError` when the cluster gives up."""
        return in_units(plan, tasks, partial(self._run, plan))

    def _run(self, plan: Plan, parts: list[Unit]) -> Generator[tuple[int, Outcome], None, None]:
        _require_ray()
        import ray

        ours = _connect(self._address)
        try:
            yield from self._stream(plan, parts)
        except ray.exceptions.RayError as e:
            raise IconicityError(
                f"the Ray cluster cannot go on ({_last_line(e)}); run the same command again: what is written is kept"
            ) from e
        finally:
            if ours:
                ray.shutdown()

    def serve(self, openings: Sequence[Opens]) -> Served:
        """Open each in an actor of its own. Raises the errors of opening."""
        _require_ray()
        ours = _connect(self._address)
        return Served(openings, self._pool, self._gpus(), ours)

    def _gpus(self) -> float:
        """Number of GPUs of one actor."""
        import ray

        return self._pool.gpus if self._pool.gpus is not None else float(ray.cluster_resources().get("GPU", 0) > 0)

    def _stream(self, plan: Plan, parts: list[Unit]) -> Iterator[tuple[int, Outcome]]:
        import ray.data

        pool, gpus = self._pool, self._gpus()
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # ours is of images
        # Bytes, as objects in columns took Ray 6 ms an image; who can give this cluster bytes can run anything in it anyway.
        packed = [{"unit": pickle.dumps(unit)} for unit in parts]
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
    """An actor that runs units. It returns errors as answers, since Ray would wrap a raised one and try again."""

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


class Opens(Protocol):
    """Something that can be pickled and opened in another process, and then answers questions there."""

    def open(self) -> Any: ...


class Served:
    """Objects that are open in actors. An actor that dies is started and asked again."""

    def __init__(self, openings: Sequence[Opens], pool: ActorPool, gpus: float, ours: bool) -> None:
        import ray

        self._ours = ours
        kind = ray.remote(num_cpus=pool.cpus, num_gpus=gpus, max_restarts=-1, max_task_retries=-1)(_Servant)
        self._actors = [kind.remote(opening) for opening in openings]
        try:
            self.ask(None)
        except BaseException:
            self.close()
            raise

    def ask(self, question: Any) -> list[Any]:
        """Ask all actors at once and return their answers. Raises :class:`IconicityError`."""
        import ray

        once = ray.put(question)
        try:
            answers = ray.get([actor.ask.remote(once) for actor in self._actors])
        except ray.exceptions.RayError as e:
            raise IconicityError(f"the Ray cluster cannot go on ({_last_line(e)}); run the same command again") from e
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return list(answers)

    def close(self) -> None:
        """End the actors, and the cluster where it was begun for them."""
        import ray

        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        if self._ours:
            ray.shutdown()


class _Servant:
    """An actor that opens its object at the first question: an error in the constructor would end the actor."""

    def __init__(self, opening: Opens) -> None:
        self._opening = opening
        self._opened: Any = None

    def ask(self, question: Any) -> Any:
        try:
            if self._opened is None:
                self._opened = self._opening.open()
            return None if question is None else self._opened.ask(question)
        except IconicityError as e:
            return e


def _require_ray() -> None:
    """Import Ray, quiet and without usage reports. Raises :class:`InputError` when it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray.data  # noqa: F401

        logging.getLogger("ray.data").setLevel(logging.ERROR)
    except ImportError as e:
        raise InputError(NEEDS_RAY) from e


def _connect(address: str | None) -> bool:
    """Join a cluster, or start one of this machine. Returns whether it is to be shut down. Raises :class:`InputError`."""
    import ray

    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS")
    _require_reachable(address)
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    try:
        with _no_chatter():
            if address is None:
                ray.init(address="local", include_dashboard=False, **_QUIET)
            else:
                ray.init(address=address, runtime_env={"env_vars": passed} if passed else None, **_QUIET)
    except (ConnectionError, RuntimeError, ValueError, OSError) as e:
        where = "on this machine" if address is None else f"at {address}"
        raise InputError(f"no Ray cluster {where} ({_last_line(e)}); name one with `ray_address`") from e
    return True


@contextmanager
def local_cluster(cpus: int) -> Iterator[None]:
    """A cluster of this machine for as long as the block, with so many processor cores as it believes."""
    _require_ray()
    import ray

    with _no_chatter():
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **_QUIET)
    try:
        yield
    finally:
        ray.shutdown()


def _require_reachable(address: str | None) -> None:
    """Test whether the cluster answers, since Ray retries for minutes. Raises :class:`InputError`."""
    host, colon, port = (address or "").rpartition("://")[2].rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as e:
        raise InputError(f"no Ray cluster at {address} ({e.strerror or e}); name one with `ray_address`") from e


@contextmanager
def _no_chatter() -> Iterator[None]:
    """Hide what Ray's native code prints while it starts. Errors come as exceptions."""
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
