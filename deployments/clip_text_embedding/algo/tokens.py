"""Texts to the token ids that a CLIP text encoder takes.

The model's ``tokenizer.json`` does the byte-pair encoding and sets the start and end token. Filling
up and cutting off are done here, as open_clip's ``SimpleTokenizer`` does them, with which
MobileCLIP was trained (``ClipTokenizer`` in ``mobileclip/modules/text/tokenizer.py`` of
apple/ml-mobileclip): what is left behind the end token is 0, and a text that is too long ends in
the end token all the same. It matters: MobileCLIP-S0's text encoder has no causal mask
(``causal_masking: false`` in its ``mobileclip_s0.json``), so every token sees the filling. The
filling that tokenizer files for other CLIP models ask for, the end token, gives other embeddings.

Two things that ``SimpleTokenizer`` does before are not in ``tokenizer.json``: it repairs wrongly
decoded text (ftfy) and replaces HTML entities.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from deployments.runtime.errors import EmptyInputError, ModelIntegrityError, TooLargeError

FILLING = 0

MAX_CHARACTERS = 100_000
"""Longer texts are refused before they are looked at; so many take a tenth of a second."""


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a ``tokenizer.json``, which then neither fills up nor cuts off.

    Raises:
        ModelIntegrityError: the file is not one.

    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no other class
        raise ModelIntegrityError(f"{path} is not a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def tokenize(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return a text's token ids, start and end token included.

    Raises:
        EmptyInputError: nothing is in it but white space.
        TooLargeError: it has more than ``MAX_CHARACTERS`` characters.

    """
    if not text.strip():
        raise EmptyInputError("a text is empty; expected at least one character in every text")
    if len(text) > MAX_CHARACTERS:
        raise TooLargeError(
            f"a text has {len(text)} characters; the limit is {MAX_CHARACTERS}",
        )
    return tokenizer.encode(text).ids


def fit(ids: list[int], length: int, *, truncate: bool) -> NDArray[np.int64]:
    """Bring token ids to the length that the model takes.

    Args:
        ids: of one text, the last one being the end token.
        length: how many the model takes.
        truncate: cut off what is too much, and keep the end token.

    Returns:
        (length,), int64.

    Raises:
        TooLargeError: there are too many, and ``truncate`` is not set.

    """
    if len(ids) > length:
        if not truncate:
            raise TooLargeError(
                f"a text has {len(ids)} tokens, its start and end included; the model takes "
                f"{length}: shorten it, or set truncate=true to have its beginning embedded"
            )
        ids = [*ids[: length - 1], ids[-1]]
    filled = np.full(length, FILLING, np.int64)
    filled[: len(ids)] = ids
    return filled
