"""Where rows and blobs live, and how long a lease lasts. Every field is an environment variable."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class StoreSettings(BaseSettings):
    """Read from `LOOKAHEAD_…`; the defaults are the embedded store under `data_dir`.

    `database_url` is an SQLAlchemy URL of SQLite or PostgreSQL. `blobs_url` is `file:///path`,
    `memory:///`, or `s3://bucket/prefix` (also `gs://`, `az://`), whose credentials and endpoint come
    from the provider's own variables (`AWS_ENDPOINT_URL`, …).
    """

    model_config = SettingsConfigDict(env_prefix="LOOKAHEAD_", extra="ignore", frozen=True)

    data_dir: Path = Path(".lookahead")
    database_url: str | None = None
    blobs_url: str | None = None
    lease_seconds: Seconds = 30
    sweep_seconds: Seconds = 5
    max_attempts: Annotated[int, Field(ge=1)] = 3
    idempotency_hours: Seconds = 24

    @property
    def effective_database_url(self) -> str:
        """`database_url`, or the SQLite file in `data_dir`."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'lookahead.db'}"

    @property
    def effective_blobs_url(self) -> str:
        """`blobs_url`, or the folder `blobs` in `data_dir`."""
        return self.blobs_url or (self.data_dir.absolute() / "blobs").as_uri()
