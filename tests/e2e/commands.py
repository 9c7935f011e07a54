"""The `lookahead` command as a shell would run it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

LOOKAHEAD = Path(sys.executable).with_name("lookahead")


def lookahead(url: str, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command against the service at `url`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LOOKAHEAD_")}
    return subprocess.run(
        [str(LOOKAHEAD), *map(str, arguments)],
        env=inherited | {"LOOKAHEAD_SERVER": url},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What `--json` gave; the run must have succeeded."""
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found
