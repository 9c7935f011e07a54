"""Health answers."""

from enum import StrEnum

from api_schemas.base import Answer


class Health(StrEnum):
    """`degraded` still serves: the broker is away, say, and jobs wait for the sweep."""

    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"


class Check(Answer):
    """One thing that readiness looked at."""

    name: str
    status: Health
    detail: str | None = None


class Readiness(Answer):
    """``GET /readyz``: 200 unless the service is down."""

    status: Health
    checks: list[Check]


class Liveness(Answer):
    """``GET /livez``: the process answers."""

    status: Health = Health.OK
