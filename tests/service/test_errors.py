"""The error tree of the service."""

from service.errors import ServiceError


def test_every_refusal_has_a_status_and_a_code() -> None:
    """Errors without a sensible status would surface as 500s that nobody documented."""
    classes = [found for found in ServiceError.__subclasses__() if found.__name__ != "RejectedModelError"]
    made = [found("detail") for found in classes]
    assert len(made) == 22
    assert all(400 <= error.http_status < 600 for error in made)
    assert len({(error.http_status, error.problem_code) for error in made}) == len(made)
