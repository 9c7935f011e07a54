"""Signatures of Standard Webhooks 1.0, and the secret they are made with."""

import base64
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import final

from standardwebhooks import Webhook

_PREFIX = "whsec_"
_SECRET_BYTES = 32
_FILE = "webhook_secret"


@final
class Signer:
    """Signs payloads so that receivers can tell that they are ours and fresh."""

    def __init__(self, secret: str) -> None:
        self._webhook = Webhook(secret)

    def headers(self, message_id: str, body: str) -> dict[str, str]:
        """The headers that go with the body; the same id marks every try of one message."""
        moment = datetime.now(UTC)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": self._webhook.sign(message_id, moment, body),
            "content-type": "application/json",
        }


def load_secret(configured: str | None, data_dir: Path) -> str:
    """The configured secret, or the one kept in the data directory, made there at first."""
    if configured:
        return configured
    path = data_dir / _FILE
    fresh = _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
    draft = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(fresh)
    try:
        os.link(draft, path)  # fails where another process was first: then its secret is the secret
    except FileExistsError:
        return path.read_text().strip()
    finally:
        draft.unlink()
    return fresh
