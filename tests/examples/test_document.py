"""docs/capabilities.md shows code as it is in the files that it names."""

import re
from pathlib import Path
from textwrap import indent

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "capabilities.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^(?:<!-- from (\S+) -->\n)?```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("file", "code"), BLOCK.findall(TEXT))
def test_blocks_are_quotations(file: str, code: str) -> None:
    """Each block of code names its file and is in it, word for word; methods are moved left."""
    text = (ROOT / file).read_text(encoding="utf-8")
    assert code in text or indent(code, "    ") in text
