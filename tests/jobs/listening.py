"""Who is told of jobs: a receiver of webhooks, and a client of the MQTT broker."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion


class Receiver:
    """Counts the deliveries of webhooks by job and ``webhook-id``."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        """Keep the server, for its address."""
        self.deliveries: dict[str, list[str]] = defaultdict(list)
        host, port = server.server_address[:2]
        self.url = f"http://{host}:{port}/told"


@contextmanager
def receiving(address: str = "127.0.0.1") -> Iterator[Receiver]:
    """Receive webhooks for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            receiver.deliveries[body["data"]["job_id"]].append(self.headers["webhook-id"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            """Print nothing."""

    with ThreadingHTTPServer((address, 0), Handler) as server:
        receiver = Receiver(server)
        thread = threading.Thread(target=server.serve_forever, name="receiver")
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


class Listener:
    """Notes which jobs were said to be completed, and when; it comes back when the broker does."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.completed: dict[str, set[int]] = defaultdict(set)

    def note(self, event: dict[str, Any]) -> None:
        """Note an event."""
        if event["event_type"] == "completed":
            self.completed[event["job_id"]].add(event["timestamp"])


@contextmanager
def listening(port: int) -> Iterator[Listener]:
    """Listen to the broker for the time of the block."""
    listener = Listener()
    subscribed = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2)
    client.reconnect_delay_set(1, 1)

    def subscribe(*_: object) -> None:
        client.subscribe("inference/events", qos=1)

    client.on_connect = subscribe
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _client, _data, message: listener.note(json.loads(message.payload))
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert subscribed.wait(10)
    try:
        yield listener
    finally:
        client.disconnect()
        client.loop_stop()
