"""Variants for tests that need one to be there and do not care how it was made."""

from pathlib import Path

from deployments.runtime.models import Attempt, Measure, ModelStore, VariantName, VariantReport


def attempt(variant: VariantName = "float16", *, cosine: float = 1.0, **more: object) -> Attempt:
    """Make up what came of an attempt: as fast as float32 and half as large, unless told else."""
    measure = Measure(name="mean cosine", value=cosine, least=0.99)
    figures = {"speed_ratio": 1.0, "size_bytes": 50, "base_size_bytes": 100, **more}
    return Attempt.model_validate({"variant": variant, "agreement": (measure,), **figures})


def keep(store: ModelStore, model: str, file: Path, made: Attempt) -> VariantReport:
    """Take a file into a store as the variant that an attempt is of."""
    shelf = store.variants(model)
    return shelf.keep(file, made.variant, (made,), photos=(4, 2), processor="a made-up one")
