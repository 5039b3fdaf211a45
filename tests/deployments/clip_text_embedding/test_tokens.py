"""Tokens: CLIP's own ids for known texts, filling up, cutting off, and what is refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from benchmarks.stand_ins.tokenizer import clip_tokenizer
from deployments.clip_text_embedding.algo.tokens import (
    MAX_CHARACTERS,
    fit,
    load_tokenizer,
    tokenize,
)
from deployments.runtime.errors import EmptyInputError, ModelIntegrityError, TooLargeError
from deployments.runtime.models import ModelStore, load_catalogue

VOCABULARY = Path(__file__).parents[2] / "clip.yaml"
START, END = 49406, 49407
MERGES = 49152 - 256 - 2  # how many of the file's CLIP uses, after a line with its version


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Load a tokenizer.json made of CLIP's own vocabulary, which asks to fill up and cut off."""
    packed = ModelStore(load_catalogue(VOCABULARY)).pull("clip_vocabulary")
    lines = gzip.decompress(packed.read_bytes()).decode().split("\n")[1 : MERGES + 1]
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    tokenizer = clip_tokenizer(merges)
    tokenizer.enable_padding(pad_id=END, pad_token="<|endoftext|>", length=77)  # noqa: S106 - a token of text
    tokenizer.enable_truncation(77)
    path = tmp_path_factory.mktemp("clip") / "tokenizer.json"
    tokenizer.save(str(path))
    return load_tokenizer(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("A  Photo of\n a\tCAT ", [320, 1125, 539, 320, 2368]),
        ("a painting of a cat", [320, 3086, 539, 320, 2368]),
        ("bozuman", [647, 4091, 786]),
        ("!", [256]),
    ],
)
def test_known_ids(clip: Tokenizer, text: str, expected: list[int]) -> None:
    """Ids are those that CLIP's own tokenizer gives, whatever the case and the white space."""
    assert [START, *expected, END] == tokenize(clip, text)


@pytest.mark.parametrize("text", ["naïve café 😀 it's 2024", "日本語", "<b>&amp;</b>", "a" * 300])
def test_every_text_has_tokens(clip: Tokenizer, text: str) -> None:
    """Any letters at all become known tokens between start and end."""
    ids = tokenize(clip, text)
    assert (START, END) == (ids[0], ids[-1])
    assert len(ids) > 2
    assert not {START, END} & set(ids[1:-1])


@pytest.mark.parametrize("text", ["", " ", "\n\t  ", "\u3000"])
def test_empty_texts(clip: Tokenizer, text: str) -> None:
    """A text of nothing, or of white space alone, is refused."""
    with pytest.raises(EmptyInputError, match="expected at least one character"):
        tokenize(clip, text)


def test_ten_thousand_words(clip: Tokenizer) -> None:
    """A text of 10,000 words is told how many tokens it has."""
    ids = tokenize(clip, "word " * 10_000)
    with pytest.raises(TooLargeError, match=r"10002 tokens.* takes 77.*truncate=true"):
        fit(ids, 77, truncate=False)


def test_book(clip: Tokenizer) -> None:
    """A text as long as a book is refused by its length alone."""
    with pytest.raises(TooLargeError, match=f"{MAX_CHARACTERS + 1} characters; the limit is"):
        tokenize(clip, "a" * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([8, 9], [8, 9, 0, 0]),
        ([8, 1, 9], [8, 1, 9, 0]),
        ([8, 1, 2, 9], [8, 1, 2, 9]),
        ([8, 1, 2, 3, 9], [8, 1, 2, 9]),
        ([8, 1, 2, 3, 4, 5, 9], [8, 1, 2, 9]),
    ],
)
def test_fit(ids: list[int], expected: list[int]) -> None:
    """Short texts are filled up with 0, and long ones cut so that the end token is kept."""
    fitted = fit(ids, 4, truncate=True)
    assert np.int64 == fitted.dtype
    assert expected == fitted.tolist()


def test_not_a_tokenizer(tmp_path: Path) -> None:
    """A file that is no tokenizer is an error that names it."""
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ModelIntegrityError, match=r"tokenizer\.json is not a tokenizer"):
        load_tokenizer(path)
