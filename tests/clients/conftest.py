"""One server for each test process, and what the tests share."""

import itertools
import os

import pytest

from towline import Towline

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server():
    running = Towline()
    yield running
    running.stop()


@pytest.fixture
def own_server():
    """A server for a test that kills it."""
    running = Towline()
    yield running
    running.stop()


@pytest.fixture
def kafka(server):
    return server.kafka


@pytest.fixture
def name(request):
    """Makes names of topics and groups that no other test uses."""

    def make(what="topic"):
        return f"{what}-{os.getpid()}-{next(_numbers)}"

    return make


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """A failed test shows the end of its server's log."""
    outcome = yield
    report = outcome.get_result()
    running = item.funcargs.get("own_server") or item.funcargs.get("server") if hasattr(item, "funcargs") else None
    if report.when == "call" and report.failed and running:
        report.sections.append(("towline's log", running.log()))
