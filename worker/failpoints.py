"""Named points at which a test can kill or stop the process: ``LOOKAHEAD_FAILPOINT=name:action``.

Actions: ``kill`` (SIGKILL), ``stop`` (SIGSTOP), ``term`` (SIGTERM), ``raise`` (an error nobody expects).
Several are separated by commas. Points: ``supervisor.claimed``, ``supervisor.child_started``,
``supervisor.before_publish``, ``supervisor.published``, ``supervisor.before_finish``,
``supervisor.finished``, ``supervisor.checkpointed``. Unset, as in production, a point costs a look at one
empty mapping.
"""

import os
import signal
from collections.abc import Mapping

VARIABLE = "LOOKAHEAD_FAILPOINT"
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}


def _parse(text: str) -> Mapping[str, str]:
    pairs = (entry.partition(":") for entry in text.split(",") if entry)
    return {name: action for name, _, action in pairs}


_armed = _parse(os.environ.get(VARIABLE, ""))


def reach(point: str) -> None:
    """Do here what the environment asks for; nothing, unless it does."""
    action = _armed.get(point)
    if action is None:
        return
    if action == "raise":
        raise RuntimeError(f"failpoint {point}")
    os.kill(os.getpid(), _SIGNALS[action])
