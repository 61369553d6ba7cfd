"""constraints.txt: whatever is installed is pinned there, once, to what it fits."""

import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

import tiny
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PINS = dict(
    line.split("==") for line in (tiny.ROOT / "constraints.txt").read_text("utf-8").splitlines()
)


def declared() -> list[Requirement]:
    """What pyproject.toml asks for, extras included."""
    text = (tiny.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    extras = project["optional-dependencies"].values()
    asked = [*project["dependencies"], *(one for extra in extras for one in extra)]
    return [one for one in map(Requirement, asked) if one.name != project["name"]]


def needed() -> Iterator[Requirement]:
    """`declared`, and what that asks for in turn on this system."""
    seen, waiting = set(), declared()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        yield requirement
        for extra in requirement.extras or {""}:
            waiting += [
                inner
                for inner in map(Requirement, requires(requirement.name) or [])
                if inner.marker is None or inner.marker.evaluate({"extra": extra})
            ]


def test_every_package_that_is_installed_is_pinned_to_what_is_asked_for() -> None:
    pins = {canonicalize_name(name): pin for name, pin in PINS.items()}
    assert len(pins) == len(PINS)
    for requirement in needed():
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin, f"{requirement} is not pinned"
        assert requirement.specifier.contains(pin, prereleases=True), f"{requirement}, not {pin}"


def test_what_runs_here_is_what_is_pinned() -> None:
    """Otherwise no figure of these tests is one of the pinned environment."""
    found = {}
    for name in PINS:
        try:
            # Without a build's own sign, as in 2.13.0+cpu.
            found[name] = Version(version(name)).public
        except PackageNotFoundError:
            continue  # of another system
    assert found == {name: PINS[name] for name in found}
    assert len(found) > 100
