"""Settings of the API process; each is an environment variable with the prefix `LOOKAHEAD_`."""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from store.settings import StoreSettings

_GIB = 2**30


class ServiceSettings(StoreSettings):
    """What the API needs beside the store's settings. Sizes in bytes, times in seconds."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    #: Comma separated; empty leaves the service open.
    api_keys: Annotated[tuple[str, ...], NoDecode] = ()
    #: Unset means embedded: no doorbell, workers poll the store.
    broker_url: str | None = None

    #: Requests that one key, or one address without a key, may make in `rate_limit_seconds`; unset: any.
    rate_limit_requests: Annotated[int, Field(ge=1)] | None = None
    rate_limit_seconds: Annotated[int, Field(ge=1)] = 60
    #: A Redis in which all API processes count together. Unset: the broker's, if that is one.
    rate_limit_url: Annotated[str, Field(pattern="^rediss?://")] | None = None

    max_upload_bytes: Annotated[int, Field(gt=0)] = 20 * 10**9
    #: Sum of what an uploaded archive unpacks to.
    max_unpacked_bytes: Annotated[int, Field(gt=0)] = 64 * _GIB
    max_json_bytes: Annotated[int, Field(gt=0)] = 8 * 2**20
    #: An upload is refused when it would leave less than this on the disk.
    reserve_bytes: Annotated[int, Field(ge=0)] = _GIB // 2
    upload_idle_seconds: Annotated[float, Field(gt=0)] = 60
    #: Mean rate below which an upload is ended, once it has had `upload_idle_seconds`.
    upload_min_bytes_per_second: Annotated[int, Field(ge=0)] = 1024

    poll_seconds: Annotated[float, Field(gt=0)] = 0.25
    heartbeat_seconds: Annotated[float, Field(gt=0, le=15)] = 10
    validate_seconds: Annotated[float, Field(gt=0, le=60)] = 60
    staging_hours: Annotated[float, Field(gt=0)] = 24

    #: `whsec_` and base 64. Unset: made once and kept in the data directory.
    webhook_secret: str | None = None
    #: Also deliver over http and to private addresses: for closed networks and tests.
    webhook_allow_private: bool = False
    webhook_seconds: Annotated[float, Field(gt=0)] = 10

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(key.strip() for key in value.split(",") if key.strip())
        return value
