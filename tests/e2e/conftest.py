"""One real service for the tests of this folder: `lookahead serve`, as a user would start it."""

from collections.abc import Iterator

import pytest

from client import Lookahead
from demo.serving import Served, served


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("service"), threads="1", poll_seconds="0.1") as running:
        yield running


@pytest.fixture
def client(service: Served) -> Iterator[Lookahead]:
    with Lookahead(service.url) as connected:
        yield connected
