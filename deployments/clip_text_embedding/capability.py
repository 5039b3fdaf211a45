"""The CLIP text embedding capability: one unit per text, so batches fill by texts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deployments.clip_text_embedding.algo.tokens import fit, load_tokenizer, tokenize
from deployments.clip_text_embedding.schema import ClipTextEmbeddingParams
from deployments.runtime.capability import Capability, Work
from deployments.runtime.embeddings import (
    TextEmbedding,
    TextEmbeddings,
    output_index,
    unit_length,
)
from deployments.runtime.errors import ConfigError, EmptyInputError
from deployments.runtime.models import Contract
from deployments.runtime.types import Texts


class ClipTextEmbedding(Capability[ClipTextEmbeddingParams, TextEmbeddings]):
    """Turns texts into vectors of what they describe."""

    name = "clip_text_embedding"
    summary = "One vector per text, comparable with those of pictures (MobileCLIP)."
    inputs = (Texts,)
    params = ClipTextEmbeddingParams
    result = TextEmbeddings
    default_model = "mobileclip_s0_text"
    own_threads = 1
    """So that a text need not wait for the pictures of the nodes beside it."""

    def load(self) -> None:
        """Load the model and its tokenizer, and warm up.

        Raises:
            ModelError: the model or its tokenizer can't be used.
            ConfigError: the catalogue does not describe it as a model of texts.

        """
        settings = self.settings
        model = self.model_name or ""
        contract, tokenizer = self._text_contract(model)
        self._dim = contract.embedding_dim or 0
        self._space = contract.embedding_space or ""
        self._length = contract.input.shape[1] or 0
        self._session = settings.open_session(model)
        self._tokenizer = load_tokenizer(settings.store.path(tokenizer))
        self._output = output_index(self._session, contract)
        # Not the session's own warm-up: the graph may call the number of tokens free, and then
        # take no other than this.
        self.infer([np.zeros(self._length, np.int64)])

    def prepare(self, inputs: tuple[Texts], params: ClipTextEmbeddingParams) -> Work:
        """Tokenize: units are the texts' ids, (length,) int64."""
        (texts,) = inputs
        if not texts.texts:
            raise EmptyInputError("there is no text; expected at least one")
        ids = [tokenize(self._tokenizer, text) for text in texts.texts]
        units = [fit(row, self._length, truncate=params.truncate) for row in ids]
        return Work(units, (texts.texts, [len(row) for row in ids], params))

    def infer(self, units: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """Embed texts of any mix of requests: (D,) float32 per text, as the model gives it."""
        ids = np.stack(units).astype(self._session.input_dtype)
        return list(self._session.run(ids)[self._output])

    def finish(self, work: Work, parts: Sequence[NDArray[np.float32]]) -> TextEmbeddings:
        """Put texts and embeddings together."""
        texts, token_counts, params = work.state
        return TextEmbeddings(
            texts=tuple(
                TextEmbedding(
                    text=text,
                    token_count=count,
                    truncated=count > self._length,
                    embedding=unit_length(embedding) if params.normalize else embedding,
                )
                for text, count, embedding in zip(texts, token_counts, parts, strict=True)
            ),
            embedding_dim=self._dim,
            model=self.model_name or "",
            space=self._space,
            normalized=params.normalize,
        )

    def sample(self) -> tuple[Texts]:
        """Return one short text."""
        return (Texts(("a photo of a cat",)),)

    def _text_contract(self, model: str) -> tuple[Contract, str]:
        """Return the model's contract, and the name of its tokenizer."""
        entry = self.settings.store.catalogue[model]
        contract = entry.contract
        if (
            contract is None
            or contract.embedding_dim is None
            or contract.input.layout != "tokens"
            or contract.input.shape[1:] in ((), (None,))
            or len(entry.needs) != 1
        ):
            raise ConfigError(
                f"{self.name}: model: {model!r} is not a model for it: expected a catalogue entry "
                "that needs one tokenizer, and whose contract has an input of (batch, tokens) "
                "with the layout tokens, and embedding_dim"
            )
        return contract, entry.needs[0]
