"""Tables of memory by part and state, and of figures beside their goals."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.memory import Outcome

SMALL_BYTES = 2e6
"""Parts below this in every state share one row."""


def memory_table(outcome: Outcome) -> Table:
    """Show the PSS of each part in each state, in MB."""
    states = list(outcome.parts_bytes)
    table = Table(
        box=SIMPLE_HEAD,
        title=f"{outcome.profile}: memory (PSS) in MB",
        title_justify="left",
    )
    table.add_column("Part", no_wrap=True)
    for state in states:
        table.add_column(state, justify="right", no_wrap=True)
    shown: dict[str, list[float]] = {}
    for part in dict.fromkeys(part for sizes in outcome.parts_bytes.values() for part in sizes):
        row = [float(outcome.parts_bytes[state].get(part, 0)) for state in states]
        name = part if max(row) >= SMALL_BYTES else "others"
        shown[name] = [a + b for a, b in zip(shown.get(name, [0.0] * len(row)), row, strict=True)]
    for part, row in sorted(shown.items(), key=lambda item: (item[0] == "others", -max(item[1]))):
        table.add_row(part, *(_megabytes(size) for size in row))
    table.add_section()
    totals = (sum(sizes.values()) for sizes in outcome.parts_bytes.values())
    table.add_row("[bold]All[/]", *(f"[bold]{_megabytes(total)}[/]" for total in totals))
    return table


def start_table(outcome: Outcome) -> Table:
    """Show how long each step of the start took."""
    title = f"{outcome.profile}: start, {outcome.start_s:.1f} s"
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("Step")
    table.add_column("seconds", justify="right")
    for step, taken_s in outcome.steps_s.items():
        table.add_row(step, f"{taken_s:.1f}")
    return table


def goals_table(outcome: Outcome) -> Table:
    """Show every figure that has a goal."""
    title = f"{outcome.profile}: goals"
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("Figure")
    for column in ("measured", "wanted", "verdict"):
        table.add_column(column, justify="right", no_wrap=True)
    for figure in outcome.figures():
        digits = 0 if figure.unit == "MB" else 1
        table.add_row(
            figure.title,
            f"{figure.value:,.{digits}f} {figure.unit}",
            f"≤ {figure.goal:,g} {figure.unit}",
            "[green]pass[/]" if figure.is_met else "[bold red]short[/]",
        )
    return table


def _megabytes(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:,.0f}" if size_bytes else "–"
