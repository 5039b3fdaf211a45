"""Variants of a model: smaller or faster forms of its graph, made and validated on this machine.

``mobilefacenet@int8`` is the variant ``int8`` of the catalogue entry ``mobilefacenet``. The
entry's contract, licence and embedding space are the variant's too. The catalogue can't say what a
variant must hash to, since it depends on the photos it was calibrated with and on the processor:
the report beside it does, and names the file of the base model that it was made from. When that is
another one today, the variant is of no use any more.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import ConfigDict, ValidationError, computed_field

from deployments.runtime.atomic import atomic_write
from deployments.runtime.errors import ModelNotInstalledError, ModelNotValidatedError
from deployments.runtime.models._entry import ModelEntry, Sha256, Strict
from deployments.runtime.models._files import disk_full_explained, place, sha256_of
from deployments.runtime.models._layout import CacheLayout
from deployments.runtime.models._local import UsableFile, usable_file

SEPARATOR = "@"

VariantName = Literal["int8", "int8_dynamic", "float16"]
VARIANT_NAMES: tuple[VariantName, ...] = get_args(VariantName)

FASTER = 1.05
"""Times as fast as float32 from which a variant counts as faster: measuring a graph
against itself gave 0.96 to 1.06."""
SMALLER = 0.9
"""Share of float32's size up to which a variant counts as smaller."""


class Measure(Strict):
    """How far a variant agrees with float32 in one respect: 1 is fully, ``least`` is demanded."""

    name: str
    value: float
    least: float

    @property
    def holds(self) -> bool:
        """Whether it is enough; a value that is no number never is."""
        return self.value >= self.least

    def __str__(self) -> str:
        """Write it as people read it."""
        return f"{self.name} {self.value:.4f}"


class Attempt(Strict):
    """What came of one way to make a variant.

    ``failure`` says why there is none; the figures are of the photos held out from calibration.
    ``speed_ratio`` is in times of float32, one row, one thread. ``float_layers`` of ``layers`` were
    left in float32 because they lost too much. What follows from these is written into the report
    for those who read it, and computed anew when it is loaded.
    """

    model_config = ConfigDict(extra="ignore")

    variant: VariantName
    failure: str | None = None
    agreement: tuple[Measure, ...] = ()
    speed_ratio: float = 0.0
    size_bytes: int = 0
    base_size_bytes: int
    layers: int = 0
    float_layers: tuple[str, ...] = ()

    @property
    def is_accurate(self) -> bool:
        """Whether it agrees with float32 in every respect."""
        return bool(self.agreement) and all(measure.holds for measure in self.agreement)

    @computed_field
    @property
    def size_ratio(self) -> float:
        """Its size as a share of float32's."""
        return self.size_bytes / self.base_size_bytes

    @property
    def gains(self) -> tuple[str, ...]:
        """What it is better in than float32: ``faster``, ``smaller``, both or nothing."""
        faster = self.speed_ratio >= FASTER
        smaller = self.size_ratio <= SMALLER
        return (("faster",) if faster else ()) + (("smaller",) if smaller else ())

    @computed_field
    @property
    def passed(self) -> bool:
        """Whether it may be served."""
        return self.is_accurate and bool(self.gains)

    @computed_field
    @property
    def verdict(self) -> str:
        """Why it may be served, or why not."""
        if self.failure is not None:
            return f"not made: {self.failure}"
        missed = [f"{m}, at least {m.least} is right" for m in self.agreement if not m.holds]
        if missed:
            return f"failed: {'; '.join(missed)}"
        return f"passed: {' and '.join(self.gains)}" if self.gains else "failed: no gain"


class VariantReport(Strict):
    """What is known of a kept variant: stands as JSON beside its file.

    ``attempts`` are all that its run tried, the kept one and those that it was better than.
    """

    model: str
    variant: VariantName
    sha256: Sha256
    base_sha256: Sha256
    processor: str
    calibration_photos: int
    held_out_photos: int
    attempts: tuple[Attempt, ...]

    @property
    def kept(self) -> Attempt:
        """The attempt whose file was kept."""
        return next(attempt for attempt in self.attempts if attempt.variant == self.variant)

    @property
    def name(self) -> str:
        """The full name, as the YAML has it."""
        return f"{self.model}{SEPARATOR}{self.variant}"


def split_name(name: str) -> tuple[str, str | None]:
    """Split a model's name into that of its catalogue entry and its variant, None without one."""
    base, separator, variant = name.partition(SEPARATOR)
    return base, variant if separator else None


def base_name(name: str) -> str:
    """Return the name of the catalogue entry of a model's name, with or without a variant."""
    return split_name(name)[0]


@dataclass(frozen=True, slots=True)
class VariantShelf:
    """The variants of one catalogue entry on this machine."""

    layout: CacheLayout
    entry: ModelEntry

    @property
    def base_sha256(self) -> str:
        """What the entry's own usable file hashes to, of which variants are made."""
        return usable_file(self.layout, self.entry).sha256

    def report(self, variant: str) -> VariantReport | None:
        """Read what is known of a variant; None where there is none."""
        try:
            content = self.layout.variant(self.entry, variant, ".json").read_bytes()
            return VariantReport.model_validate_json(content)
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None

    def reports(self) -> list[VariantReport]:
        """Read what is known of all variants that are here."""
        found = (self.report(variant) for variant in VARIANT_NAMES)
        return [report for report in found if report is not None]

    def keep(
        self,
        file: Path,
        variant: VariantName,
        attempts: tuple[Attempt, ...],
        *,
        photos: tuple[int, int],
        processor: str,
    ) -> VariantReport:
        """Take a variant in, in place of an older one.

        The old report does not fit the new file, so nobody uses that before its own is there.

        Args:
            file: its graph.
            variant: which one it is.
            attempts: all that were made with it.
            photos: how many it was calibrated with, and validated on.
            processor: that its speed was measured on.

        Returns:
            The report that was written beside it.

        Raises:
            ModelDownloadError: the disk is full or the cache can't be written.

        """
        report = VariantReport(
            model=self.entry.name,
            variant=variant,
            sha256=sha256_of(file),
            base_sha256=self.base_sha256,
            processor=processor,
            calibration_photos=photos[0],
            held_out_photos=photos[1],
            attempts=attempts,
        )
        with disk_full_explained(self.layout.folder):
            place(file, self.layout.variant(self.entry, variant, ".onnx"))
            with atomic_write(self.layout.variant(self.entry, variant, ".json")) as writer:
                writer.write(report.model_dump_json(indent=1).encode())
        return report

    def usable(self, variant: str, *, allow_unvalidated: bool) -> UsableFile:
        """Return the file of a variant that may be used; it is not yet verified.

        Raises:
            ModelNotInstalledError: it is not here, or was made from another base.
            ModelNotValidatedError: it failed its validation and that is not allowed.

        """
        base = self.entry.name
        name = f"{base}{SEPARATOR}{variant}"
        path = self.layout.variant(self.entry, variant, ".onnx")
        report = self.report(variant)
        command = quantize_command(name)
        if report is None or not path.is_file():
            raise ModelNotInstalledError(
                f"{name!r} has not been made on this machine; make it with: {command}"
            )
        if report.base_sha256 != self.base_sha256:
            raise ModelNotInstalledError(
                f"{name!r} was made from another file of {base!r} than the one in use (sha256 "
                f"{report.base_sha256[:16]}… and {self.base_sha256[:16]}…); make it again with: "
                f"{command}"
            )
        if not allow_unvalidated:
            self.require_validated(name)
        return UsableFile(path, report.sha256)

    def require_validated(self, name: str) -> None:
        """Check that a variant, if it is here, has passed its validation.

        Raises:
            ModelNotValidatedError: it has not.

        """
        base, variant = split_name(name)
        report = self.report(variant) if variant else None
        if report is not None and not report.kept.passed:
            raise ModelNotValidatedError(
                f"{name!r} may not be served: it {report.kept.verdict}; take {base!r}, or set "
                "allow_unvalidated: true to have it all the same"
            )


def quantize_command(name: str) -> str:
    """Return the command that makes a variant, by its full name."""
    base, variant = split_name(name)
    return f"cl-serve quantize {base} --calibration FOLDER --method {variant}"
