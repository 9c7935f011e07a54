"""Settings from the environment, and the defaults of the embedded store."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from store import StoreSettings


def test_the_default_is_everything_under_the_data_folder(tmp_path: Path) -> None:
    settings = StoreSettings(data_dir=tmp_path / "a b")
    assert settings.effective_database_url == f"sqlite:///{tmp_path}/a b/lookahead.db"
    assert settings.effective_blobs_url == f"file://{tmp_path}/a%20b/blobs"


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKAHEAD_DATABASE_URL", "postgresql://db/x")
    monkeypatch.setenv("LOOKAHEAD_BLOBS_URL", "s3://bucket/prefix")
    monkeypatch.setenv("LOOKAHEAD_LEASE_SECONDS", "12.5")
    settings = StoreSettings()
    assert settings.effective_database_url == "postgresql://db/x"
    assert settings.effective_blobs_url == "s3://bucket/prefix"
    assert settings.lease_seconds == 12.5


@pytest.mark.parametrize("bad", [{"lease_seconds": 0}, {"sweep_seconds": float("nan")}, {"max_attempts": 0}])
def test_senseless_values_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        StoreSettings(**bad)  # type: ignore[arg-type]
