"""A ``tokenizer.json`` as CLIP models have it, of any vocabulary.

The pieces and the regular expression are those of the fast CLIP tokenizer of Hugging Face's
transformers (``CLIPConverter`` in ``convert_slow_tokenizer.py``, Apache-2.0), which wrote the
published file.
"""

from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"

_WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def clip_tokenizer(merges: Sequence[tuple[str, str]], *, start_id: int | None = None) -> Tokenizer:
    """Build a tokenizer.

    Args:
        merges: pairs of pieces that become one, most frequent first, as CLIP's vocabulary lists
            them; none gives a token for each byte.
        start_id: the id of the start token, which the end token follows; None for the next after
            the merges.

    """
    letters = _byte_letters()
    pieces = [*letters, *(letter + END_OF_WORD for letter in letters), *map("".join, merges)]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    first = len(pieces) if start_id is None else start_id
    vocabulary |= {START: first, END: first + 1}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=list(merges),
            unk_token=END,
            continuing_subword_prefix="",
            end_of_word_suffix=END_OF_WORD,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        (END, first + 1), (START, first), trim_offsets=False, add_prefix_space=False
    )
    tokenizer.add_special_tokens([START, END])
    return tokenizer


def _byte_letters() -> list[str]:
    """Return the letters that stand for the 256 bytes, in CLIP's order: printable ones first."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [*map(chr, printable), *(chr(0x100 + i) for i in range(len(others)))]
