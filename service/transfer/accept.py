"""Which of two representations a client prefers (RFC 9110 §12.5.1)."""


def prefers(accept: str | None, wanted: str, default: str) -> bool:
    """True when `Accept` rates `wanted` above `default`; equal ratings mean the default."""
    if not accept:
        return False
    return _quality(accept, wanted) > _quality(accept, default)


def _quality(accept: str, media_type: str) -> float:
    """The weight that the most specific matching range gives to the media type, 0 without one."""
    ranges = {media_type: 3, f"{media_type.split('/')[0]}/*": 2, "*/*": 1}
    best = (0, 0.0)
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        if name in ranges:
            best = max(best, (ranges[name], _weight(parameters)))
    return best[1]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
