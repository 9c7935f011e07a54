"""Errors of the worker; those of the engine are its own. The docstring is the default message.

WorkerError
├── SandboxUnavailableError  this machine cannot confine a child as the settings ask
├── ChildStartError          the child did not come up
├── BrokenProtocolError      the child wrote something that is not a message
└── RejectedOutputError      what the child left behind is not what it should be
"""


class WorkerError(Exception):
    """The worker could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class SandboxUnavailableError(WorkerError):
    """The sandbox cannot be set up on this machine; set LOOKAHEAD_SANDBOX=best_effort to run without."""


class ChildStartError(WorkerError):
    """The child process did not start."""


class BrokenProtocolError(WorkerError):
    """The child wrote something that is not a message."""


class RejectedOutputError(WorkerError):
    """The output of the job was refused."""
