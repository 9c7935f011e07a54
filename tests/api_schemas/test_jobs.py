"""What a summary may hold: it comes from a process that has opened an untrusted file."""

import pytest
from pydantic import ValidationError

from api_schemas.jobs import Summary


def test_a_metric_is_named() -> None:
    assert Summary(accuracy_metric="mean squared error").accuracy_metric == "mean squared error"


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 65, "two\nlines", "\ud800"])
def test_a_metrics_name_is_short_plain_text(name: str) -> None:
    with pytest.raises(ValidationError):
        Summary(accuracy_metric=name)
