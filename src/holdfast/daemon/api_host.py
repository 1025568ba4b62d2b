"""The control API of a running node comes last: it is imported in a thread, when nobody waits for the processor."""

import threading
from asyncio import AbstractEventLoop, Task
from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast.daemon.control import NodeControl
from holdfast.daemon.effects import ERROR, Log

if TYPE_CHECKING:
    from holdfast.daemon.api import Server


class ApiHost:
    """The API of `control` on the UNIX socket `path`, once it is wanted."""

    def __init__(
        self, control: NodeControl, path: str, loop: AbstractEventLoop, log: Callable[[Log], None]
    ) -> None:
        self._control = control
        self._path = path
        self._loop = loop
        self._log = log
        self._wanted = False
        self._server: Server | None = None
        self._task: Task[None] | None = None

    def want(self) -> None:
        """Nobody waits any more: begin, unless that has happened."""
        if not self._wanted:
            self._wanted = True
            threading.Thread(target=self._import, name="import-api", daemon=True).start()

    def end(self) -> None:
        """Answer what is being answered, and no more. The loop has stopped."""
        if self._task is not None and self._server is not None:
            self._server.should_exit = True
            self._loop.run_until_complete(self._task)

    def _import(self) -> None:
        from holdfast.daemon.api import server

        api = server(self._control)
        self._loop.call_soon_threadsafe(self._serve, api)

    def _serve(self, api: "Server") -> None:
        from holdfast.daemon.api import bind

        try:
            sock = bind(self._path)
        except OSError as e:
            self._log(Log("api.failed", {"path": self._path, "text": e.strerror or str(e)}, ERROR))
            return
        self._server = api
        self._task = self._loop.create_task(api.serve(sockets=[sock]))
        self._log(Log("node.api", {"path": self._path}))
