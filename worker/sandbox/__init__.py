"""Confinement of the child that opens untrusted files: rlimits, no capabilities, Landlock, seccomp.

`enter` is called once, by the child, before it imports anything large: Landlock binds the calling
thread and those it starts later, so it has to come before the libraries start theirs.
"""

from worker.sandbox.confine import Confinement, enter
from worker.sandbox.limits import Limits, tighten
from worker.sandbox.policy import SandboxMode

__all__ = ["Confinement", "Limits", "SandboxMode", "enter", "tighten"]
