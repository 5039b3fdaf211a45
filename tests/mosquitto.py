"""A private Mosquitto for a test, on a free port of this machine's loopback, and a client of it."""

import json
import queue
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from serve_app.stack.ports import free_ports

TIMEOUT_S = 20.0
_START_TIMEOUT_S = 10.0
_POLL_S = 0.02


class Subscriber:
    """A client that gets all, as those of the protocol do."""

    def __init__(self, port: int) -> None:
        """Connect, and wait for the subscription."""
        self._messages: queue.Queue[MQTTMessage] = queue.Queue()
        subscribed: queue.Queue[None] = queue.Queue()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _client, _data, message: self._messages.put(message)
        self._client.on_subscribe = lambda *_: subscribed.put(None)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        until(self._client.is_connected)
        self._client.subscribe("#", qos=1)
        subscribed.get(timeout=TIMEOUT_S)

    def get(self) -> tuple[str, Any]:
        """Wait for the next message; give its topic and content, None for an empty one."""
        message = self._messages.get(timeout=TIMEOUT_S)
        return message.topic, json.loads(message.payload) if message.payload else None

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def subscribed(port: int) -> Iterator[Subscriber]:
    """Subscribe for the time of the block."""
    subscriber = Subscriber(port)
    try:
        yield subscriber
    finally:
        subscriber.close()


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(_POLL_S)


class Mosquitto:
    """A broker that can be killed and started again; it remembers nothing."""

    def __init__(
        self,
        folder: Path,
        *,
        login: tuple[str, str] | None = None,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        """Choose a port and write the configuration; ``start`` runs it.

        Args:
            folder: for its configuration.
            login: the name and password that clients need; by default none.
            certificate: files of the broker's certificate and key; with them it speaks TLS.

        """
        self.port = free_ports(1)[0]
        lines = [
            f"listener {self.port} 127.0.0.1",
            "user root",  # else it gives up root's rights and can't read the folder
            "persistence false",
            f"allow_anonymous {str(login is None).lower()}",
        ]
        if login is not None:
            passwords = folder / "mosquitto.passwords"
            passwords.write_text(":".join(login) + "\n", encoding="ascii")
            passwords.chmod(0o600)
            subprocess.run([_program("mosquitto_passwd"), "-U", passwords], check=True)
            lines.append(f"password_file {passwords}")
        if certificate is not None:
            lines += [f"certfile {certificate[0]}", f"keyfile {certificate[1]}"]
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it, and wait until it listens."""
        process = subprocess.Popen(
            [_program("mosquitto"), "-c", self._config],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._process = process
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert process.poll() is None, "mosquitto ended; run it with this configuration"
                assert time.monotonic() < deadline_s, "mosquitto does not listen"
                time.sleep(_POLL_S)
            else:
                return

    def hang(self) -> None:
        """Let it do nothing any more, its connections open, until it is killed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def mosquitto(folder: Path) -> Iterator[int]:
    """Run a broker that everybody may use; give its port."""
    broker = Mosquitto(folder)
    broker.start()
    try:
        yield broker.port
    finally:
        broker.kill()


def _program(name: str) -> str:
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    assert found is not None, f"{name} is not installed: sudo apt install mosquitto"
    return found
