"""Variants of models as people see them: ``cl-serve quantize`` and ``cl-serve models list``."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from deployments.runtime.models import Attempt, ModelStatus, ModelStore, VariantReport


def attempts_table(model: str, attempts: Sequence[Attempt]) -> Table:
    """List attempts at variants of a model, with what each lost and gained."""
    table = _table()
    for attempt in attempts:
        table.add_row(f"{escape(model)}@{attempt.variant}", *_figures(attempt), _verdict(attempt))
    return table


def variants_table(store: ModelStore, reports: Iterable[VariantReport]) -> Table:
    """List variants that are on this machine; hashes their files."""
    table = _table()
    table.title, table.title_justify = "Variants made on this machine", "left"
    for report in reports:
        match store.status(report.name):
            case ModelStatus.INSTALLED:
                verdict = _verdict(report.kept)
            case ModelStatus.CORRUPT:
                verdict = "[bold red]corrupt[/]"
            case ModelStatus.NOT_INSTALLED:
                verdict = "[yellow]of no use: the model's file has changed since[/]"
        table.add_row(escape(report.name), *_figures(report.kept), verdict)
    return table


def _table() -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("Variant", no_wrap=True)
    table.add_column("Agreement with float32")
    for title in ("Speed", "Size"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("Verdict", overflow="fold")
    return table


def _figures(attempt: Attempt) -> tuple[str, str, str]:
    """Write agreement, speed and size of an attempt; nothing where it was not made."""
    if attempt.failure is not None:
        return "", "", ""
    agreement = "\n".join(str(measure) for measure in attempt.agreement)
    size = f"{attempt.size_bytes / 1e6:.1f} MB\n×{attempt.size_ratio:.2f}"
    return agreement, f"×{attempt.speed_ratio:.2f}", size


def _verdict(attempt: Attempt) -> str:
    """Write why an attempt may be served, or why not, in Rich's markup."""
    colour = "green" if attempt.passed else "red" if attempt.failure is None else "dim"
    text = f"[{colour}]{escape(attempt.verdict)}[/]"
    if attempt.float_layers:
        text += f"\n{len(attempt.float_layers)} of {attempt.layers} layers in float32"
    return text
