"""A real HTTP server on a port of this machine, which a test starts, stops, and starts again."""

import socket
import threading
from abc import ABC, abstractmethod

import uvicorn
from starlette.types import Receive, Scope, Send


class LocalServer(ABC):
    """A server at one address; subclasses say what it answers."""

    def __init__(self) -> None:
        """Choose a port; ``start`` listens on it."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._address = free.getsockname()
        self.url = f"http://127.0.0.1:{self._address[1]}"

    def start(self) -> None:
        """Listen; returns when requests are answered."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self._address)
        config = uvicorn.Config(
            self._handle,
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), daemon=True)
        self._thread.start()
        listener.listen()  # connections wait in the queue until the server takes them

    def stop(self) -> None:
        """End at once, whatever is in work."""
        self._server.force_exit = self._server.should_exit = True
        self._thread.join()

    @abstractmethod
    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
