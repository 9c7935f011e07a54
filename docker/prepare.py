"""One-shot before API and worker start: brings the tables up to date and makes the bucket. Safe to run again.

obstore reads and writes objects but makes no buckets; a presigned PUT on the bucket itself does, with any
store that speaks S3. Credentials, region and endpoint come from the AWS_… variables, as for the service.
"""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import obstore
from obstore.store import S3Store

from store import open_store
from store.errors import StoreError
from store.settings import StoreSettings

_ATTEMPTS = 30
_PAUSE_SECONDS = 2.0
_REQUEST_SECONDS = 10
#: BucketAlreadyOwnedByYou and its relatives.
_ALREADY_THERE = 409


def main() -> int:
    """Prepare what the settings name; 1 with a message when it cannot be done in a minute."""
    settings = StoreSettings()
    try:
        _patiently(lambda: make_bucket(settings.effective_blobs_url))
        _patiently(lambda: open_store(settings).close())
    except (StoreError, OSError) as error:
        sys.stderr.write(f"not prepared: {error}\n")
        return 1
    sys.stdout.write("tables and bucket are ready\n")
    return 0


def make_bucket(blobs_url: str) -> None:
    """Make the bucket of an ``s3://`` address unless it is there. Raises `OSError`; others need none."""
    address = urlsplit(blobs_url)
    if address.scheme != "s3":
        return
    url = obstore.sign(S3Store(address.netloc), "PUT", "", timedelta(minutes=5))
    try:
        with urlopen(Request(url, data=b"", method="PUT"), timeout=_REQUEST_SECONDS):  # noqa: S310
            pass
    except HTTPError as error:
        with error:
            if error.code != _ALREADY_THERE:
                raise OSError(f"making the bucket {address.netloc}: HTTP {error.code}") from error
    except URLError as error:
        raise OSError(f"the object store does not answer: {error.reason}") from error


def _patiently(step: Callable[[], None]) -> None:
    """Databases and object stores take a moment to start."""
    for attempt in range(_ATTEMPTS):
        try:
            step()
        except (StoreError, OSError):
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


if __name__ == "__main__":
    sys.exit(main())
