"""Parameters and result of hashing."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from deployments.runtime.capability import Params

Algorithm = Literal["sha512", "md5"]


class HashParams(Params):
    """What one request may ask for."""

    algorithm: Algorithm = Field(
        default="sha512",
        description="How the bytes are hashed. md5 finds equal files, and can be forged.",
    )
    perceptual: bool = Field(
        default=True,
        description="Also hash how an image looks: `phash` and `dhash`.",
    )
    content: bool = Field(
        default=False,
        description=(
            "Also hash what an image or video shows, whatever its metadata: `content_hash`. "
            "Needs a full decode."
        ),
    )


@dataclass(frozen=True, slots=True)
class Hashes:
    """The hashes of one file, in hexadecimal.

    ``hash_value`` is that of its bytes by ``algorithm``. ``content_hash`` is a sha512 of the pixels
    alone; None when it was not asked for. ``phash`` and ``dhash`` have 64 bits; None for
    what is not an image. Where the pixels can't be read these are None as well, and ``problem``
    says why. ``media_type`` is the file's MIME type by its content.
    """

    hash_value: str
    algorithm: Algorithm
    media_type: str
    size_bytes: int
    phash: str | None
    dhash: str | None
    content_hash: str | None
    problem: str | None
