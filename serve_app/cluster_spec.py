"""How machines come together: the file's section ``cluster``, which is ours alone."""

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

LOOPBACK = "127.0.0.1"

Port = Annotated[int, Field(ge=1, le=65535)]

_HOST_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*\.?", re.IGNORECASE)


def is_loopback(address: str) -> bool:
    """Tell whether an address, or a name, is one at which nobody else reaches this machine."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address.rstrip(".").lower() == "localhost"


def _reachable(address: str) -> str:
    """Check the form of an address at which other machines are to reach this one."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        # Digits and dots that are no address are a mistyped one, not a name.
        if _HOST_NAME.fullmatch(address) and not re.fullmatch(r"[\d.]+", address):
            return address
    else:
        if not ip.is_unspecified and not ip.is_multicast:
            return address
    raise ValueError(f"expected the IP address or the name of this machine, got {address!r}")


class ClusterSpec(BaseModel):
    """How machines come together: ``cluster``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Annotated[str, AfterValidator(_reachable)] = Field(
        default=LOOPBACK,
        description="Address of this machine at which nodes reach the head. A loopback address "
        "means that no other machine can join.",
    )
    port: Port = Field(default=6379, description="Nodes join here.")
    metrics_port: Port = Field(
        default=9464,
        description="Prometheus metrics of each machine.",
    )

    @model_validator(mode="after")
    def _ports_differ(self) -> "ClusterSpec":
        if self.port == self.metrics_port:
            raise ValueError(
                f"metrics_port: expected another port than port, got {self.port} twice"
            )
        return self
