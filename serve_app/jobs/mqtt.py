"""Events of jobs for an MQTT broker, on the topics and in the words of the original system.

Nothing here waits for the broker: paho's own thread connects, and connects again. Events of ended
jobs are sent with QoS 1 and kept while the broker is away, as many as ``MAX_UNSENT``; a client
gets each at least once. Events of jobs under way are worth nothing later, and are not kept. The
worker's state is retained at the broker and goes with the worker, by its last will.
"""

import json
import logging
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from deployments.runtime.errors import ConfigError
from serve_app.jobs.job import JobEvent
from serve_app.schema import MqttSpec

logger = logging.getLogger("ray.serve")

MAX_UNSENT = 1000
"""Events without the broker's receipt; more are dropped and counted. As many as Mosquitto keeps
for one of its clients by default; in memory they are about 2 MB."""

KEEPALIVE_S = 15
"""A broker gives up a silent client after 1.5 times this; so long a dead machine looks alive."""

MIN_RECONNECT_S = 1
MAX_RECONNECT_S = 30
"""Wait between attempts, doubled each time: one quick restart is hardly noticed, and a broker that
is away for long is not bothered."""

FLUSH_S = 2.0
"""How long ``close`` waits for the broker's receipts; a healthy one takes milliseconds."""

_AT_MOST_ONCE = 0
_AT_LEAST_ONCE = 1


class MqttEvents:
    """One worker's connection to the broker."""

    def __init__(self, spec: MqttSpec, worker_id: str, capabilities: Sequence[str]) -> None:
        """Read the password and certificates; ``start`` connects.

        Args:
            spec: the broker.
            worker_id: one level of a topic. It must stay the same over restarts and be this
                worker's alone: a broker ends the older of two connections that share it.
            capabilities: the tasks that this worker does.

        Raises:
            ConfigError: the host is none, or a file that the YAML names can't be used.

        """
        self._worker_id = worker_id
        self._capabilities = list(capabilities)
        self._broker = f"MQTT broker {spec.host}:{spec.port}"
        self._events_topic = f"{spec.topic}/events"
        self._worker_topic = f"{spec.topic}/workers/{worker_id}"
        self._state: Literal["new", "connected", "away", "refused", "closed"] = "new"
        self._lock = threading.Lock()  # keeps what is retained in the order of what happened
        self._idle: int | None = None
        self._dropped = 0
        self._client = self._new_client(spec)

    def _new_client(self, spec: MqttSpec) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, f"cl-ml-serve-{self._worker_id}")
        if spec.username is not None:
            client.username_pw_set(spec.username, _read_password(spec))
        if spec.tls:
            client.tls_set_context(_tls_context(spec))
        client.will_set(self._worker_topic, None, _AT_LEAST_ONCE, retain=True)
        # All are sent at once, in order: what paho holds back could be overtaken, or lost at the
        # end, and a broker acknowledges faster than jobs end.
        client.max_inflight_messages_set(MAX_UNSENT)
        client.max_queued_messages_set(MAX_UNSENT)
        client.reconnect_delay_set(MIN_RECONNECT_S, MAX_RECONNECT_S)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        try:
            spec.host.encode("idna")  # as the connection does; there it would end paho's thread
            client.connect_async(spec.host, spec.port, KEEPALIVE_S)
        except ValueError as error:
            raise ConfigError(
                "args.events.mqtt.host: expected the name or address of a broker, got "
                f"{spec.host!r}: {error}",
            ) from error
        return client

    def start(self) -> None:
        """Connect in the background, for as long as it takes."""
        self._client.loop_start()

    def publish(self, event: JobEvent) -> None:
        """Tell of a job: its id, its status as ``event_type``, when it changed, its progress.

        Clients of the protocol take ``event_type`` for the job's status, so the words are those
        of the status: ``queued``, ``in_progress`` (at its start and whenever it moves),
        ``completed`` and ``failed``.
        """
        job = event.job
        if not job.ended and not self._client.is_connected():
            return
        body = {
            "job_id": job.job_id,
            "event_type": job.status,
            "timestamp": job.updated_at,
            "progress": int(job.progress),
        }
        sent = self._client.publish(self._events_topic, _packed(body), _AT_LEAST_ONCE)
        if sent.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            self._dropped += 1

    def idle(self, count: int) -> None:
        """Tell how many more jobs this worker could take on now."""
        with self._lock:
            if count != self._idle and self._state != "closed":
                self._idle = count
                self._publish_state()

    def close(self) -> None:
        """Take the worker's state back and disconnect; what is under way gets ``FLUSH_S``."""
        with self._lock:
            was_connected = self._client.is_connected()
            self._state = "closed"
        if was_connected:
            # Receipts come in order: with this one, all are there.
            farewell = self._client.publish(self._worker_topic, None, _AT_LEAST_ONCE, retain=True)
            with suppress(RuntimeError, ValueError):  # the broker is gone, or the queue is full
                farewell.wait_for_publish(FLUSH_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _publish_state(self) -> None:
        """Have the broker retain the worker's state; the caller holds the lock.

        Without a receipt, as it is published again with every connection: one that paho sent
        again by itself could overwrite a newer one.
        """
        if self._idle is None or not self._client.is_connected():
            return
        body = {
            "worker_id": self._worker_id,
            "capabilities": self._capabilities,
            "idle_count": self._idle,
            "timestamp": time.time_ns() // 1_000_000,
        }
        self._client.publish(self._worker_topic, _packed(body), _AT_MOST_ONCE, retain=True)

    # The rest is called by paho's thread. One line is logged when the broker goes, and one when
    # it is back, however often paho tries in between.

    def _on_connect(
        self,
        _client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._lock:
            if self._state == "closed":
                return
            if reason.is_failure:
                if self._state != "refused":
                    logger.warning(
                        "%s refuses this worker (%s); trying again. See username and "
                        "password_file below args.events.mqtt",
                        self._broker,
                        reason,
                    )
                self._state = "refused"
                return
            self._state = "connected"
            dropped, self._dropped = self._dropped, 0
            lost = f"; {dropped} events of jobs were lost meanwhile" if dropped else ""
            logger.info("%s: connected%s", self._broker, lost)
            self._publish_state()

    def _on_connect_fail(self, _client: Client, _userdata: object) -> None:
        if self._state == "new":
            self._went_away(repr(sys.exception()))  # paho calls this where it handles the error

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self._state == "connected":
            self._went_away(f"connection lost: {reason}")

    def _went_away(self, why: str) -> None:
        self._state = "away"
        logger.warning(
            "%s does not answer (%s); trying again. Jobs go on; meanwhile up to %d events of ended "
            "jobs are kept",
            self._broker,
            why,
            MAX_UNSENT,
        )


def _read_password(spec: MqttSpec) -> str | None:
    if spec.password_file is None:
        return None
    try:
        return spec.password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"args.events.mqtt.password_file: expected a file with the broker's password at "
            f"{spec.password_file}: {error}",
        ) from error


def _tls_context(spec: MqttSpec) -> ssl.SSLContext:
    """Check the broker's certificate and name, against ``ca_file`` or the system's authorities."""
    try:
        return ssl.create_default_context(cafile=spec.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"args.events.mqtt.ca_file: expected a certificate in PEM format at {spec.ca_file}: "
            f"{error}",
        ) from error


def _packed(body: dict[str, Any]) -> str:
    return json.dumps(body, separators=(",", ":"))
