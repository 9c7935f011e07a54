"""Errors of the store.

StoreError
├── NotFoundError            no such row, or deleted
├── ConflictError            the row's state forbids the change
├── IdempotencyMismatchError the key was used with another body
├── StaleClaimError          the lease is gone: another worker may own the job
├── UnavailableError         the database does not answer, or broke off
└── BlobError                a blob is missing or does not have the digest it should
"""


class StoreError(Exception):
    """The store could not do what was asked."""


class NotFoundError(StoreError):
    """There is no such thing."""


class ConflictError(StoreError):
    """The state of the thing does not allow this."""


class IdempotencyMismatchError(StoreError):
    """The idempotency key was used before with another body."""


class StaleClaimError(StoreError):
    """The lease on the job has passed to someone else; nothing was written."""


class UnavailableError(StoreError):
    """The database does not answer. Nothing is known to have been written; trying again is safe."""


class BlobError(StoreError):
    """The blob is missing or damaged."""
