"""A server of the app in this process, and its program with toy encoders in processes of its own."""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from iconicity.scorer.app.server import App
from iconicity.scorer.app.study import Study

TOYS = (sys.executable, __file__)  # the whole command line, with toy encoders
WAITS = (sys.executable, "-c", "import time; time.sleep(60)")  # in place of a run


class Client:
    """Requests as the app's own page sends them, unless a test says otherwise."""

    def __init__(self, app: App) -> None:
        self.app, self.host = app, f"127.0.0.1:{app.server_port}"
        self.headers = {"Cookie": f"{app.cookie}={app.token}", "Origin": f"http://{self.host}"}

    def raw(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.app.server_port, timeout=60)
        try:
            connection.request(method, path, body, {**self.headers, **headers})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def ask(self, method: str, path: str, value: Any = None, code: int = 200) -> Any:
        body = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        status, _, data = self.raw(method, path, body)
        assert status == code, data
        return json.loads(data)


@contextmanager
def serving(folder: Path, program: tuple[str, ...] = TOYS) -> Iterator[Client]:
    study = Study(folder, program)
    with App(study) as app:
        thread = threading.Thread(target=app.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Client(app)
        finally:
            study.stop(at_once=True)
            app.shutdown()
            thread.join()


def main() -> None:
    """The command line with toy encoders; $SLOW seconds for each batch."""
    import time

    from toys import ToyEncoder, toy_encoders

    from iconicity.cli import main as run

    forward = ToyEncoder.forward

    def slow(encoder: ToyEncoder, batch: Any) -> Any:
        time.sleep(float(os.environ.get("SLOW", "0")) * len(batch))
        return forward(encoder, batch)

    with mock.patch.object(ToyEncoder, "forward", slow):
        places = [
            f"iconicity.{module}.{name}"
            for module, name in (
                ("scorer.face", "load_encoders"), ("indexer.builder", "reproduce"), ("scorer.scoring", "reproduce"),
                ("indexer.encode.encoder", "reproduce"),
            )
        ]  # fmt: skip
        for place in places:
            mock.patch(place, lambda *_, **__: toy_encoders()).start()
        run()


if __name__ == "__main__":
    main()
