"""A bucket on the loopback interface that speaks as much S3 as obstore asks for. It checks no signatures."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape


@dataclass
class Bucket:
    """What is in the bucket: objects, and parts of uploads that are not complete."""

    objects: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    failing: bool = False
    port: int = 0


@contextmanager
def bucket_server() -> Iterator[Bucket]:
    """Serve one bucket, at any path whose first part is its name."""
    bucket = Bucket()
    handler = type("Handler", (_Handler,), {"bucket": bucket})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    bucket.port = server.server_port
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""

    def do_PUT(self) -> None:
        body = self._body()
        if "partNumber" in self._query:
            number = int(self._query["partNumber"])
            self.bucket.uploads[self._query["uploadId"]][number] = body
        else:
            self._keep(body)
        self._answer(200, etag=body)

    def do_POST(self) -> None:
        body = self._body().decode()
        if "uploads" in self._query:
            upload = f"upload{len(self.bucket.uploads)}"
            self.bucket.uploads[upload] = {}
            self._answer(200, f"<R><UploadId>{upload}</UploadId></R>")
        elif "delete" in self._query:
            keys = [unescape(key) for key in re.findall("<Key>(.*?)</Key>", body)]
            for key in keys:
                self.bucket.objects.pop(key, None)
            gone = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
            self._answer(200, f"<DeleteResult>{gone}</DeleteResult>")
        else:
            parts = self.bucket.uploads.pop(self._query["uploadId"])
            self._keep(b"".join(parts[number] for number in sorted(parts)))
            self._answer(200, "<R><ETag>x</ETag></R>")

    def do_GET(self) -> None:
        if "list-type" in self._query:
            self._list()
        elif self._key in self.bucket.objects:
            self._send_object(head=False)
        else:
            self._answer(404, "<Error><Code>NoSuchKey</Code></Error>")

    def do_HEAD(self) -> None:
        if self._key in self.bucket.objects:
            self._send_object(head=True)
        else:
            self._answer(404)

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    @property
    def _query(self) -> dict[str, str]:
        pairs = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        return {name: values[0] for name, values in pairs.items()}

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _keep(self, content: bytes) -> None:
        self.bucket.objects[self._key] = (content, datetime.now(UTC))

    def _list(self) -> None:
        prefix, delimiter = self._query.get("prefix", ""), self._query.get("delimiter")
        listed = sorted(key for key in self.bucket.objects if key.startswith(prefix))
        folders = dict.fromkeys(
            key[: key.index(delimiter, len(prefix)) + 1]
            for key in listed
            if delimiter and delimiter in key[len(prefix) :]
        )
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{moment.isoformat()}</LastModified>"
            f"<ETag>x</ETag><Size>{len(content)}</Size></Contents>"
            for key, (content, moment) in ((key, self.bucket.objects[key]) for key in listed)
            if not key.startswith(tuple(folders))
        )
        found += "".join(
            f"<CommonPrefixes><Prefix>{escape(key)}</Prefix></CommonPrefixes>" for key in folders
        )
        self._answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>")

    def _send_object(self, *, head: bool) -> None:
        content, moment = self.bucket.objects[self._key]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(wanted[1]), int(wanted[2])) if wanted else (0, len(content) - 1)
        self._begin(206 if wanted else 200, content)
        piece = content[first : last + 1]
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{first + len(piece) - 1}/{len(content)}")
        self.send_header("Last-Modified", moment.strftime("%a, %d %b %Y %H:%M:%S GMT"))
        self.send_header("Content-Length", str(len(piece)))
        self.end_headers()
        if not head:
            self.wfile.write(piece)

    def _begin(self, status: int, etag: bytes | None) -> None:
        self.bucket.requests.append(f"{self.command} {status}")
        self.send_response(status)
        if etag is not None:
            self.send_header("ETag", f'"{hashlib.md5(etag, usedforsecurity=False).hexdigest()}"')

    def _answer(self, status: int, text: str = "", etag: bytes | None = None) -> None:
        self._begin(403 if self.bucket.failing else status, etag)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
