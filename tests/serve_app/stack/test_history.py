"""The configurations that ran: kept whole, in order, and not too many."""

from pathlib import Path

from serve_app.stack.history import KEEP, History


def test_empty(tmp_path: Path) -> None:
    """Without a folder there is no revision."""
    history = History(tmp_path / "none")
    assert history.revisions() == []
    assert history.latest() is None


def test_order_and_repetition(tmp_path: Path) -> None:
    """Revisions count up; the same one twice is one."""
    history = History(tmp_path)
    first = history.add("a.yaml", {"key": 1})
    assert first == history.add("a.yaml", {"key": 1})
    second = history.add("a.yaml", {"key": 2})
    assert [first, second] == history.revisions()
    assert [1, 2] == [revision.number for revision in history.revisions()]
    history.drop(second)
    assert first == history.latest()


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    """The oldest goes when there are too many; numbers are not used again."""
    history = History(tmp_path)
    for i in range(KEEP + 3):
        history.add("a.yaml", {"key": i})
    assert list(range(4, KEEP + 4)) == [revision.number for revision in history.revisions()]


def test_damaged_file(tmp_path: Path) -> None:
    """What a power cut left behind is passed over."""
    history = History(tmp_path)
    good = history.add("a.yaml", {})
    (tmp_path / "000002.json").write_text("{", encoding="utf-8")
    assert [good] == history.revisions()
