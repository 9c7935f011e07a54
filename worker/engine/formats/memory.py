"""Tells failed allocations from other errors: runtimes report them as plain errors with a message."""

_SIGNS = (
    "can't allocate memory",
    "failed to allocate memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
)


def raise_if_memory(error: BaseException) -> None:
    """Raise `MemoryError` when `error` is a runtime's word for it, so that the job ends as out of memory."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in text for sign in _SIGNS):
        raise MemoryError(text[:200]) from None
