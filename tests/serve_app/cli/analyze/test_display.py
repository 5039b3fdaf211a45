"""What is seen on a terminal while files are sent."""

import io

from rich.console import Console

from serve_app.cli.analyze.display import Display
from serve_app.cli.analyze.files import FileVersion
from serve_app.cli.analyze.results import Kept, State


def test_terminal() -> None:
    """A bar shows how many of how many, the failures, and why it waits; no line is added."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None)
    version = FileVersion("/a", 1, "")
    with Display(console, total=3) as display:
        display.advance(Kept(version, State.DONE))
        display.advance(Kept(version, State.FAILED, "broken"))
        display.wait("no [answer]\n")
    text = screen.getvalue()
    assert "2/3" in text
    assert "1 failed" in text
    assert "waiting: 'no [answer]\\n'" in text
    assert "Waiting for the service" not in text
    assert display.per_second > 0


def test_nothing_to_show() -> None:
    """Without a file to send there is no bar."""
    screen = io.StringIO()
    with Display(Console(file=screen, force_terminal=True), total=0) as display:
        pass
    assert ("", 0.0) == (screen.getvalue(), display.per_second)
