"""Capabilities of installed packages: found by name; what is said of a package that is wrong."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.hash import Hash
from deployments.runtime.capability import ENTRY_POINT_GROUP, installed_capabilities
from deployments.runtime.errors import ConfigError

MODULE = """
from deployments.runtime.capability import Capability

class Misnamed(Capability):
    name = "another"

class Nameless(Capability):
    pass

number = 5
"""


Install = Callable[[str, str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lay out packages as pip leaves them: a module, and the metadata with its entry point."""
    monkeypatch.syspath_prepend(tmp_path)

    def lay_out(package: str, entry: str, code: str) -> None:
        module = package.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(code, encoding="utf-8")
        metadata = tmp_path / f"{module}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        )
        (metadata / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{entry}\n")

    return lay_out


def test_shipped() -> None:
    """The capabilities of this package are found, in alphabetical order."""
    found = installed_capabilities()
    assert Hash is found["hash"]
    assert sorted(found) == list(found)


@pytest.mark.parametrize(
    ("package", "entry", "code", "message"),
    [
        (
            "lacks-a-module",
            "faulty = lacks_a_module:Faulty",
            "import no_such_module",
            (
                "package 'lacks-a-module' offers the capability 'faulty' as "
                "'lacks_a_module:Faulty', which can't be imported: ModuleNotFoundError: No module "
                "named 'no_such_module'; install what it lacks, repair the package, or remove it: "
                "pip uninstall lacks-a-module"
            ),
        ),
        (
            "raises-on-import",
            "faulty = raises_on_import:Faulty",
            "raise RuntimeError('no GPU')",
            "which can't be imported: RuntimeError: no GPU; ",
        ),
        (
            "lacks-the-class",
            "faulty = lacks_the_class:Faulty",
            "",
            "which can't be imported: AttributeError: module 'lacks_the_class' has no attribute",
        ),
        (
            "no-capability",
            "number = no_capability:number",
            MODULE,
            (
                "package 'no-capability' offers the capability 'number' as 'no_capability:number': "
                "expected a Capability class, got 5; repair the package, or remove it: "
            ),
        ),
        (
            "misnamed",
            "faulty = misnamed:Misnamed",
            MODULE,
            "expected a class whose name is 'faulty', got 'another'; ",
        ),
        (
            "nameless",
            "faulty = nameless:Nameless",
            MODULE,
            "expected a class whose name is 'faulty', got None; ",
        ),
        (
            "hashes-too",
            "hash = deployments.hash:Hash",
            "",
            "both offer the capability 'hash'; keep one of them: pip uninstall ",
        ),
    ],
)
def test_faulty_packages(
    install: Install, package: str, entry: str, code: str, message: str
) -> None:
    """The message names the package, what is wrong with it and what to do."""
    install(package, entry, code)
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        installed_capabilities()
    assert repr(package) in str(raised.value)
    assert f"pip uninstall {package}" in str(raised.value)


def test_two_packages_are_both_named(install: Install) -> None:
    """Of two packages that offer one capability, both are named: either may be the one to keep."""
    install("hashes-too", "hash = deployments.hash:Hash", "")
    with pytest.raises(ConfigError, match="'cl-ml-serve'") as raised:
        installed_capabilities()
    assert "'hashes-too'" in str(raised.value)
