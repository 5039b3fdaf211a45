"""What the YAML file may say: Serve's own schema, with our parts of it typed.

The same classes check a file, describe it in ``config/serve.schema.json`` for editors, and hold
its values. ``cluster`` is ours alone; Serve is not given it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    RayActorOptionsSchema,
    ServeApplicationSchema,
    ServeDeploySchema,
)

from deployments.runtime.folders import DEFAULT_KEEP_S, DEFAULT_MAX_BYTES
from deployments.runtime.picture import DEFAULT_MAX_PIXELS
from serve_app.cluster_spec import LOOPBACK, ClusterSpec, Port

MAX_ONGOING_REQUESTS = 256
"""Of a replica, unless the YAML says otherwise. Serve's default of 5 would cap every batch; the
limit that protects the machine is ``limits.max_concurrent_requests`` at the ingress."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeSpec(_Strict):
    """One node of ``args.graph``."""

    needs: tuple[str, ...] = Field(
        description="Where its inputs come from: other nodes, or the roots `upload`, `image`, "
        "`video` and `texts`.",
    )
    capability: str | None = Field(
        default=None,
        description="The capability that it runs; by default the one of the node's own name.",
    )
    model: str | None = Field(
        default=None,
        description="An entry of the model catalogue, or a variant of one that `cl-serve quantize` "
        "has made, as `mobilefacenet@int8`; by default the capability's own choice.",
    )
    allow_unvalidated: bool = Field(
        default=False,
        description="Take `model` also when it is a variant that failed its validation.",
    )
    provider: str = Field(
        default="auto",
        description="ONNX Runtime execution provider: auto, cpu, cuda, openvino, …",
    )
    num_threads: int = Field(default=1, ge=1, le=256, description="Threads of one inference.")
    timeout_s: float | None = Field(
        default=None,
        gt=0,
        description="Time limit of requests that want this node, where it is to be longer than "
        "`limits.request_timeout_s`.",
    )


class ModelsSpec(_Strict):
    """Where models come from and are kept: ``args.models``."""

    catalogue: str | None = Field(
        default=None,
        description="Path of the model catalogue; by default the one that is shipped.",
    )
    cache: str | None = Field(
        default=None,
        description="Folder of the downloaded models; by default in the user's cache folder.",
    )
    offline: bool = Field(default=False, description="Never touch the network.")


class FilesSpec(_Strict):
    """Which files of a node's disk a request may name by their path: ``args.files``."""

    readable_folders: tuple[Path, ...] = Field(
        default=(),
        description="A request may name a file below these instead of sending it.",
    )
    writable_folders: tuple[Path, ...] = Field(
        default=(),
        description="A request may have results written below these.",
    )


class OutputsSpec(_Strict):
    """Where results of many files, such as HLS streams, are kept: ``args.outputs``."""

    folder: Path | None = Field(
        default=None,
        description="By default in the user's cache folder. On several machines, one that all "
        "share.",
    )
    keep_s: float = Field(default=DEFAULT_KEEP_S, gt=0, description="Older ones are removed.")
    max_bytes: int = Field(
        default=DEFAULT_MAX_BYTES,
        ge=1,
        description="When all take more, the oldest are removed.",
    )


class WebhooksSpec(_Strict):
    """Who may be told over HTTP that a job has ended: ``args.jobs.webhooks``."""

    allowed_urls: tuple[str, ...] = Field(
        default=(),
        description="A job may name a webhook whose URL is one of these, or below one that ends "
        "with `/`.",
    )
    secret_file: Path | None = Field(
        default=None,
        description="File with the secret that signs webhooks; one is made in `folder` by default.",
    )


class JobsSpec(_Strict):
    """Durable jobs: ``args.jobs``. Without it there are none."""

    folder: Path | None = Field(
        default=None,
        description="Folder on the head's disk for the table of jobs and their files; by default "
        "in the user's state folder.",
    )
    database: str | None = Field(
        default=None,
        pattern=r"^postgresql://",
        description="A PostgreSQL database, as postgresql://user@host/name?passfile=/path, in "
        "place of a SQLite file in `folder`.",
    )
    files: str | None = Field(
        default=None,
        description="Where the files of jobs are kept, when not in `folder`: a folder that all "
        "machines share, or s3://bucket/prefix.",
    )
    files_options: dict[str, str] = Field(
        default_factory=dict,
        description="Options of an S3 store: `endpoint` and `region`. Credentials come "
        "from the usual AWS variables and files.",
    )
    max_concurrent: int = Field(default=8, ge=1, le=256, description="Jobs in work at once.")
    max_attempts: int = Field(
        default=4,
        ge=1,
        le=100,
        description="Tries of a job that fails for reasons that may pass.",
    )
    retry_delay_s: float = Field(
        default=2.0,
        gt=0,
        description="Wait before the second attempt; it is four times as long before each next.",
    )
    max_queued: int = Field(default=10_000, ge=1, description="Jobs waiting; more get 503.")
    max_upload_bytes: int = Field(
        default=16 * 2**30,
        ge=1,
        description="Body size of a submission; it is streamed to disk.",
    )
    max_bytes: int = Field(
        default=100 * 2**30,
        ge=1,
        description="What the files of all jobs may take; more get 507.",
    )
    keep_s: float = Field(
        default=7 * 24 * 3600.0,
        gt=0,
        description="Ended jobs and their files are removed when so old.",
    )
    webhooks: WebhooksSpec = WebhooksSpec()


class MqttSpec(_Strict):
    """An MQTT broker that is told of jobs: ``args.events.mqtt``."""

    host: str = Field(description="The broker's name or address.")
    port: Port = Field(default=1883, description="Its port; 8883 is usual with TLS.")
    topic: str = Field(
        default="inference",
        pattern=r"^[^+#/]+(/[^+#/]+)*$",
        description="Events go to `<topic>/events`, the worker's state to `<topic>/workers/<id>`.",
    )
    tls: bool = Field(default=False, description="Encrypt, and check the broker's certificate.")
    ca_file: Path | None = Field(
        default=None,
        description="Certificate of the authority that signed the broker's, when it is not a "
        "public one.",
    )
    username: str | None = Field(default=None, description="Name to log in with.")
    password_file: Path | None = Field(default=None, description="File with the password.")

    @model_validator(mode="after")
    def _belongs_together(self) -> "MqttSpec":
        if self.ca_file is not None and not self.tls:
            raise ValueError("ca_file: expected `tls: true` beside it, got it without")
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file: expected `username` beside it, got none")
        return self


class EventsSpec(_Strict):
    """Who is told what happens: ``args.events``."""

    mqtt: MqttSpec | None = Field(default=None, description="By default no broker.")


class Limits(_Strict):
    """What one request may cost: ``args.limits``."""

    max_upload_bytes: int = Field(default=64 * 2**20, ge=1, description="Body size of a request.")
    max_pixels: int = Field(
        default=DEFAULT_MAX_PIXELS,
        ge=1,
        description="Width times height of a picture; decoding takes 3 bytes for each.",
    )
    max_files: int = Field(default=64, ge=1, description="Files, or texts, in one request.")
    max_text_chars: int = Field(default=10_000, ge=1, description="Characters of one text.")
    max_concurrent_requests: int = Field(
        default=64,
        ge=1,
        description="Requests in work at once in one ingress replica; more get 503.",
    )
    request_timeout_s: float = Field(default=60.0, gt=0, description="Time limit of a request.")
    retry_after_s: int = Field(default=1, ge=0, description="Retry-After of a 503.")


class AppArgs(_Strict):
    """The application's ``args``."""

    graph: dict[str, NodeSpec] = Field(min_length=1, description="Node name to node.")
    hosts: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Deployment name to the nodes that it hosts; a node that is in none has a "
        "deployment of its own. `ingress` hosts nodes beside the HTTP server.",
    )
    models: ModelsSpec = ModelsSpec()
    files: FilesSpec = FilesSpec()
    outputs: OutputsSpec = OutputsSpec()
    jobs: JobsSpec | None = Field(default=None, description="`jobs: {}` takes all defaults.")
    events: EventsSpec = EventsSpec()
    limits: Limits = Limits()


class NodeTuning(_Strict):
    """What may change live for one node: ``user_config.<node>``."""

    max_batch_size: int = Field(default=16, ge=1, description="Units in one inference at most.")
    batch_wait_timeout_s: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="How long an idle node waits for a batch to fill. Zero loses nothing: while "
        "one batch runs, the next one fills.",
    )
    max_concurrent_batches: int = Field(default=1, ge=1, description="Inferences at once.")
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="Defaults of the capability's request parameters, for requests without them.",
    )


class HttpOptions(HTTPOptionsSchema):
    """Where HTTP listens."""

    # Serve's own default is every address of the machine; ``ServeFile`` writes ours into the file.
    host: str = Field(
        default=LOOPBACK,
        description="Address that HTTP listens on; `0.0.0.0` lets other machines in, and there is "
        "no authentication.",
    )
    port: Port = Field(default=8000, description="Port of HTTP.")


class Deployment(DeploymentSchema):
    """One entry of ``deployments``: what differs from the defaults."""

    # Serve's annotations leave these open; here a mistake in them is found.
    num_replicas: PositiveInt | Literal["auto"] | None = Field(  # pyright: ignore[reportIncompatibleVariableOverride] - narrower on purpose
        default=1,
        description="Processes; `auto` for as many as Serve thinks best.",
    )
    user_config: dict[str, NodeTuning | None] | None = Field(  # pyright: ignore[reportIncompatibleVariableOverride] - narrower on purpose
        default=None,
        description="Node name to tuning, for the nodes of this deployment; a change restarts "
        "nothing.",
    )
    max_ongoing_requests: PositiveInt = Field(
        default=MAX_ONGOING_REQUESTS,
        description="Requests in work at once in one replica.",
    )
    ray_actor_options: RayActorOptionsSchema = Field(
        default=RayActorOptionsSchema(),
        description="What each replica needs, and where it may run.",
    )
    autoscaling_config: AutoscalingConfig | None = Field(  # pyright: ignore[reportIncompatibleVariableOverride] - narrower on purpose
        default=None,
        description="Instead of `num_replicas`: between how many, and when.",
    )

    @field_validator("autoscaling_config", mode="wrap")
    @classmethod
    def _policy_loads(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:  # noqa: ANN401 - raw YAML
        """Report a policy that Serve, which imports and pickles it, would stumble over."""
        try:
            return handler(value)
        except ValidationError:
            raise
        except Exception as error:
            function = (value.get("policy") or {}).get("policy_function")
            raise ValueError(
                f"policy.policy_function: expected what Serve can import and pickle, got "
                f"{function!r}: {error}",
            ) from error

    @model_validator(mode="before")
    @classmethod
    def _is_mapping(cls, value: object) -> object:
        """Refuse what Serve's validators, which run after this one, would fall over."""
        if not isinstance(value, Mapping):
            raise ValueError(f"expected a mapping with at least `name`, got {value!r}")  # noqa: TRY004 - Pydantic reports ValueError
        return value

    @model_validator(mode="before")
    @classmethod
    def validate_num_replicas_and_autoscaling_config(cls, values: Any) -> Any:  # noqa: ANN401 - raw YAML
        """Check the same as Serve's validator of this name, which this replaces."""
        if isinstance(values.get("num_replicas"), int) and values.get("autoscaling_config"):
            raise ValueError("num_replicas: expected this or autoscaling_config, got both")
        return values


class ApplicationFile(ServeApplicationSchema):
    """The application: the graph, and the deployments that it runs in."""

    import_path: Literal["serve_app.app:build"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride] - narrower on purpose
        description="What builds the graph from `args`.",
    )
    args: AppArgs = Field(description="The graph, its models and limits.")  # pyright: ignore[reportIncompatibleVariableOverride] - narrower on purpose
    deployments: list[Deployment] = Field(  # pyright: ignore[reportIncompatibleVariableOverride] - narrower on purpose
        default=[],
        description="Replicas, resources and tuning of deployments that differ from the defaults.",
    )


class FileSchema(ServeDeploySchema):
    """The whole file."""

    http_options: HttpOptions = Field(default=HttpOptions(), description="Where HTTP listens.")  # pyright: ignore[reportIncompatibleVariableOverride] - narrower on purpose
    applications: list[ApplicationFile] = Field(  # pyright: ignore[reportIncompatibleVariableOverride] - narrower on purpose
        min_length=1,
        max_length=1,
        description="Exactly one.",
    )
    cluster: ClusterSpec = Field(
        default=ClusterSpec(),
        description="How machines come together.",
    )

    @model_validator(mode="after")
    def _ports_differ(self) -> "FileSchema":
        for key in ("port", "metrics_port"):
            if getattr(self.cluster, key) == self.http_options.port:
                raise ValueError(
                    f"cluster.{key}: expected another port than http_options.port, "
                    f"got {self.http_options.port} for both",
                )
        return self
