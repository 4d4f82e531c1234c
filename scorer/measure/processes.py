"""Shards in a process each: so many cores multiply, and each process maps its own vectors alone."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.connection import Connection

from iconicity.indexer.encode.pool import SPAWN, follow_parent
from iconicity.indexer.encode.prepare import cores
from iconicity.indexer.errors import IconicityError
from iconicity.scorer.measure.shards import Answers, Opening, Queries


class ProcessShards:
    """Shards that were opened in processes of their own, and end with :meth:`close` or with this process."""

    def __init__(self, openings: Sequence[Opening]) -> None:
        """Raises what opening a shard raises, and :class:`IconicityError` when a process ends."""
        self._shards: list[_Process] = []
        threads = max(1, cores() // len(openings))
        try:
            self._shards += (_Process(opening, threads) for opening in openings)
            for shard in self._shards:
                shard.answer()  # it is open
        except BaseException:
            self.close()
            raise

    def ask(self, queries: Queries) -> Sequence[Answers]:
        """Each shard's answers. Raises :class:`IconicityError` when a process has ended."""
        for shard in self._shards:
            shard.ask(queries)
        answers = [shard.answer() for shard in self._shards]
        return [a for a in answers if a is not None]

    def close(self) -> None:
        """End the processes."""
        for shard in self._shards:
            shard.close()
        self._shards = []


class _Process:
    def __init__(self, opening: Opening, threads: int) -> None:
        self._name = f"{opening.index}: the search of shard {opening.shard}"
        self._connection, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(theirs, opening, threads), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, queries: Queries) -> None:
        try:
            self._connection.send(queries)
        except OSError as e:
            raise self._ended() from e

    def answer(self) -> Answers | None:
        """The next answers; None, the first time, when it is ready."""
        try:
            answer: Answers | Exception | None = self._connection.recv()
        except (EOFError, OSError) as e:
            raise self._ended() from e
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ended(self) -> IconicityError:
        self.process.join(30.0)
        return IconicityError(
            f"{self._name} ended (exit code {self.process.exitcode}), most likely for want of memory; free some, and "
            "run the same command again"
        )

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self._connection.close()


def _serve(connection: Connection, opening: Opening, threads: int) -> None:
    """A shard's life: opened, then asked until the other end closes."""
    from threadpoolctl import threadpool_info, threadpool_limits

    follow_parent()
    allowed = min([threads, *(library["num_threads"] for library in threadpool_info())])  # by the environment
    with threadpool_limits(allowed):
        try:
            search = opening.open()
            connection.send(None)
            while True:
                connection.send(search.ask(connection.recv()))
        except EOFError:
            return
        except Exception as e:
            connection.send(e)
