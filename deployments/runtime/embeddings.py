"""What the capabilities that make embeddings share: crops, models of pictures, CLIP's results.

``centre_crop`` is torchvision's ``Resize`` and ``CenterCrop`` on a PIL image, whose rounding it
follows (``_compute_resized_output_size`` and ``center_crop`` of
``torchvision.transforms.functional``, BSD-3-Clause): a model sees what it saw when it was trained.

The results of the two CLIP encoders stand here because a third capability compares them. Each has
a type of its own, as the edges of the graph are matched by type.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import ConfigError
from deployments.runtime.models import Contract
from deployments.runtime.onnx_session import OnnxSession
from deployments.runtime.picture import Picture
from deployments.runtime.types import Embedding

LONGEST_RESIZED_PX = 4096
"""A picture that would become longer when resized as a whole is resized where the crop is, and
nowhere else: of a line of 100,000 x 1 pixels the whole would be 20 GB. The results differ by the
rounding of Pillow's coefficients, so all pictures up to 16:1 take the reference's way."""


@dataclass(frozen=True, slots=True)
class ImageEmbedding:
    """What a CLIP image encoder makes of one picture; ``embedding`` is (D,), float32.

    ``embedding_dim`` is D, ``model`` the catalogue entry that made it, and ``normalized`` tells
    whether its length is 1. It can be compared with all embeddings of the same ``space``, those
    of texts included.
    """

    embedding: Embedding
    embedding_dim: int
    model: str
    space: str
    normalized: bool


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """One text and its embedding, (D,) float32.

    ``token_count`` is how many tokens the text has, its start and end token included;
    ``truncated`` tells that these were more than the model takes, and the rest was left out.
    """

    text: str
    token_count: int
    truncated: bool
    embedding: Embedding


@dataclass(frozen=True, slots=True)
class TextEmbeddings:
    """What a CLIP text encoder makes of the texts of one request, in their order.

    The other fields are those of ``ImageEmbedding``.
    """

    texts: tuple[TextEmbedding, ...]
    embedding_dim: int
    model: str
    space: str
    normalized: bool


class ImageEncoder:
    """A model that turns square crops into embeddings, as its catalogue entry describes it.

    Attributes:
        embedding_dim: how many numbers an embedding has.
        space: the entry's ``embedding_space``, empty where it has none.

    """

    def __init__(self, settings: NodeSettings, *, node: str, model: str, side_px: int) -> None:
        """Load the model and warm up.

        Args:
            settings: of the node.
            node: its name, for messages.
            model: the catalogue entry.
            side_px: width and height of the crops.

        Raises:
            ModelError: the model can't be used.
            ConfigError: the catalogue does not describe it as a model of such crops.

        """
        contract = _crop_contract(settings, node, model, side_px)
        self.embedding_dim = contract.embedding_dim or 0
        self.space = contract.embedding_space or ""
        self._subtract = np.array(contract.input.subtract, np.float32)
        self._divide = np.array(contract.input.divide, np.float32)
        self._order = slice(None, None, -1) if contract.input.colour == "BGR" else slice(None)
        self._session = settings.open_session(model)
        self._output = output_index(self._session, contract)
        self._session.warm_up()

    @property
    def gains_from_batches(self) -> bool:
        """Whether many crops at once take less than one by one."""
        return self._session.gains_from_batches

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Embed crops, each (S, S, 3) uint8 RGB: (D,) float32 per crop, as the model gives it."""
        ordered = [crop[..., self._order] for crop in crops]
        return list(
            self._session.run(to_input(ordered, self._subtract, self._divide))[self._output]
        )


def output_index(session: OnnxSession, contract: Contract) -> int:
    """Return which output of a graph is the contract's first; 0 where the contract names none."""
    name = contract.outputs[0].name
    return session.output_names.index(name) if name in session.output_names else 0


def centre_crop(
    picture: Picture, resize_px: int, crop_px: int, resample: Image.Resampling
) -> NDArray[np.uint8]:
    """Resize a picture so that its shorter side has ``resize_px``, and cut the centre out.

    Args:
        picture: of any size; decoded at the least scale that has enough pixels.
        resize_px: length of the shorter side after resizing, at least ``crop_px``.
        crop_px: width and height of the result.
        resample: the filter; Pillow widens it when it makes pictures smaller.

    Returns:
        (crop_px, crop_px, 3), uint8 RGB.

    Raises:
        InputError: the picture can't be decoded.

    """
    short, long = sorted(picture.size)
    image = picture.rgb(long_side_px=math.ceil(resize_px * long / short))
    # The original's proportions, which a decoder that scales down rounds to whole pixels.
    width, height = picture.size
    longer = int(resize_px * long / short)
    target = (resize_px, longer) if width <= height else (longer, resize_px)
    left, top = (round((side - crop_px) / 2) for side in target)  # a half goes to the even one
    box = (left, top, left + crop_px, top + crop_px)
    if longer <= LONGEST_RESIZED_PX:
        return np.asarray(image.resize(target, resample).crop(box))
    x_scale, y_scale = image.width / target[0], image.height / target[1]
    source = (box[0] * x_scale, box[1] * y_scale, box[2] * x_scale, box[3] * y_scale)
    return np.asarray(image.resize((crop_px, crop_px), resample, box=source))


def to_input(
    crops: Sequence[NDArray[np.uint8]],
    subtract: NDArray[np.float32],
    divide: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Stack crops to a model's input.

    Args:
        crops: each (S, S, 3), uint8, in the model's order of colours.
        subtract: one number, or one per channel.
        divide: one number, or one per channel.

    Returns:
        (N, 3, S, S), float32, (pixel - subtract) / divide.

    """
    batch = np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32, order="C")
    batch -= subtract.reshape(-1, 1, 1)
    batch /= divide.reshape(-1, 1, 1)
    return batch


def unit_length(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale an embedding (D,) to length 1; zeros stay zeros."""
    length = np.float32(np.linalg.norm(embedding))
    return np.divide(embedding, length, dtype=np.float32) if length > 0 else embedding


def _crop_contract(settings: NodeSettings, node: str, model: str, side_px: int) -> Contract:
    contract = settings.store.catalogue[model].contract
    wanted = (3, side_px, side_px)
    if (
        contract is None
        or contract.embedding_dim is None
        or contract.input.subtract is None
        or contract.input.divide is None
        or contract.input.layout != "NCHW"
        or contract.input.shape[1:] != wanted
    ):
        raise ConfigError(
            f"{node}: model: {model!r} is not a model for it: expected a catalogue entry whose "
            f"contract has an NCHW input of {wanted}, subtract, divide and embedding_dim"
        )
    return contract
