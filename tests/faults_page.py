"""tests/FAULTS.md: which fault is injected by which test, and what came of it.

A pytest plugin. A test that asks for the fixture `fault` says what it injected and what it saw;
when the session ends, the rows of the tests that ran are put into the page. Rows of tests that did
not run stay; a session over all tests drops those of tests that are gone.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

PAGE = Path(__file__).with_name("FAULTS.md")
HEAD = """# Faults

What can go wrong, the test that makes it go wrong, and what is seen then. Written by the test run
itself (`make test`; the rows of `test_interruption.py::test_many_*` by `make faults`); a row's
outcome is what the test saw after its assertions held.

| fault | test | outcome |
|---|---|---|
"""
ROW = re.compile(r"\| (?P<fault>.*) \| `(?P<test>.*)` \| (?P<outcome>.*) \|")

FAILED = "**the test failed**"

Fault = Callable[[str, str], None]
"""fault(what was injected, what came of it)"""
Rows = dict[tuple[str, str], str]
"""(test, fault) -> outcome."""


def _cell(text: str) -> str:
    """On one line of a table, and no markup."""
    signs = "".join(f"\\{sign}" if sign in "\\|<>*_[]`" else sign for sign in text)
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in signs)


def read(path: Path) -> Rows:
    if not path.exists():
        return {}
    matches = map(ROW.fullmatch, path.read_text(encoding="utf-8").splitlines())
    return {(row["test"], row["fault"]): row["outcome"] for row in matches if row}


def write(path: Path, rows: Rows) -> None:
    lines = [f"| {fault} | `{test}` | {outcome} |\n" for (test, fault), outcome in rows.items()]
    path.write_text(HEAD + "".join(sorted(lines, key=_place)), encoding="utf-8")


def _place(line: str) -> tuple[str, str]:
    row = ROW.fullmatch(line.rstrip("\n"))
    assert row, line
    return row["test"], row["fault"]


def _name(item: pytest.Item) -> str:
    """The test's file and function; what its parameters change is the fault's to say."""
    return re.sub(r"\[.*", "", item.nodeid.removeprefix("tests/"), flags=re.DOTALL)


class FaultsPage:
    def __init__(self) -> None:
        self.found: Rows = {}
        self.broken: Rows = {}
        self.known: set[str] = set()
        self.ran: set[str] = set()

    def note(self, item: pytest.Item, fault: str, outcome: str) -> None:
        self.found[_name(item), _cell(fault)] = _cell(outcome)

    @pytest.hookimpl
    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.known |= {_name(item) for item in items}

    @pytest.hookimpl
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.known |= {_name(item) for item in session.items}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item):  # type: ignore[no-untyped-def]
        report = (yield).get_result()
        if report.when == "call":
            self.ran.add(_name(item))
            if report.failed and "fault" in getattr(item, "fixturenames", ()):
                call = getattr(item, "callspec", None)
                self.broken[_name(item), _cell(call.id if call else "-")] = FAILED

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        rows = {
            (test, fault): outcome
            for (test, fault), outcome in read(PAGE).items()
            if outcome != FAILED or test not in self.ran
        }
        whole = not session.config.getoption("keyword") and session.config.args == ["tests"]
        if whole:
            # Parametrised tests say all their faults in a session over all tests.
            rows = {
                (test, fault): outcome
                for (test, fault), outcome in rows.items()
                if test in self.known - self.ran
            }
        rows |= self.found | self.broken
        if rows != read(PAGE):
            write(PAGE, rows)


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    page = request.config.pluginmanager.get_plugin("faults-page")
    assert isinstance(page, FaultsPage)
    return lambda what, outcome: page.note(request.node, what, outcome)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(FaultsPage(), "faults-page")
