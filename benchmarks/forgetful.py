"""A store that accepts and forgets: as much of S3 as a copy needs, and of every object only what was said of it.

It is there to be no limit to what is measured. Bodies are counted and dropped in the kernel, without being copied
(`MSG_TRUNC`, Linux's tcp(7)); signatures and checksums are taken as they are. HEAD tells of an object what the PUT, or
the upload, said: size, checksum, metadata. GET finds nothing, so that no epoch was ever written. Each connection has a
thread.

    python -m benchmarks.forgetful PORT
"""

from __future__ import annotations

import itertools
import mmap
import re
import socket
import sys
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

SINK: Final = mmap.mmap(-1, 64 * 1024 * 1024)
"""Where what is dropped would go: it is never written to, and so takes no memory."""

HEAD_BYTES: Final = 16 * 1024
KEPT: Final = re.compile(r"content-(type|encoding|disposition|language)|x-amz-meta-.*|x-amz-checksum-(?!algorithm).*")
CRC: Final = "x-amz-checksum-crc64nvme"

Headers = dict[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """What is left of a part."""

    size: int
    etag: str
    crc: str


@dataclass(slots=True)
class Upload:
    """An upload that was begun."""

    key: str
    kept: Headers
    parts: dict[int, Part] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """A request, its body dropped: `size` is what an object would have got of it."""

    method: str
    key: str
    query: dict[str, list[str]]
    headers: Headers
    size: int

    def word(self, name: str) -> str:
        """A parameter of the query."""
        return self.query[name][0]


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes back. HEAD's says the length of what it does not send."""

    status: HTTPStatus
    headers: Headers = field(default_factory=dict)
    body: bytes = b""


def xml(root: str, *lines: str) -> bytes:
    """A document as S3 writes it."""
    inner = "".join(lines)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>{inner}</{root}>'.encode()


def tag(name: str, value: object) -> str:
    """An element."""
    return f"<{name}>{escape(str(value))}</{name}>"


def error(status: HTTPStatus, code: str) -> Answer:
    """An error as S3 says it."""
    return Answer(status, {"content-type": "application/xml"}, xml("Error", tag("Code", code), tag("Message", code)))


class Store:
    """What is known of objects and uploads. Threads need no lock: each step is one operation on a dict."""

    def __init__(self) -> None:
        self._objects: dict[str, Headers] = {}
        self._uploads: dict[str, Upload] = {}
        self._numbers = itertools.count(1)

    def answer(self, request: Request) -> Answer:
        """Do as a request asks."""
        if "/" not in request.key:
            return self._bucket(request)
        if "uploads" in request.query and request.method == "POST":
            return self._create(request)
        if "uploadId" in request.query:
            upload = self._uploads.get(request.word("uploadId"))
            return error(HTTPStatus.NOT_FOUND, "NoSuchUpload") if upload is None else self._upload(request, upload)
        match request.method:
            case "PUT" if "tagging" in request.query:
                return Answer(HTTPStatus.OK)
            case "PUT":
                return Answer(HTTPStatus.OK, {"etag": self._keep(request.key, request.size, kept(request.headers))})
            case "HEAD":
                found = self._objects.get(request.key)
                return Answer(HTTPStatus.NOT_FOUND) if found is None else Answer(HTTPStatus.OK, found)
            case "DELETE":
                self._objects.pop(request.key, None)
                return Answer(HTTPStatus.NO_CONTENT)
            case _:
                return error(HTTPStatus.NOT_FOUND, "NoSuchKey")

    @staticmethod
    def _bucket(request: Request) -> Answer:
        """Every bucket is there, takes every setting, has none, and holds nothing."""
        if request.method != "GET":
            return Answer(HTTPStatus.NO_CONTENT if request.method == "DELETE" else HTTPStatus.OK)
        if "uploads" in request.query:
            return Answer(HTTPStatus.OK, {}, xml("ListMultipartUploadsResult", tag("IsTruncated", "false")))
        if not request.query or "list-type" in request.query or "location" in request.query:
            return Answer(HTTPStatus.OK, {}, xml("ListBucketResult", tag("IsTruncated", "false")))
        return error(HTTPStatus.NOT_FOUND, "NoSuchBucketPolicy")

    def _create(self, request: Request) -> Answer:
        name = f"upload-{next(self._numbers)}"
        self._uploads[name] = Upload(request.key, kept(request.headers))
        return Answer(HTTPStatus.OK, {}, xml("InitiateMultipartUploadResult", tag("UploadId", name)))

    def _upload(self, request: Request, upload: Upload) -> Answer:
        match request.method:
            case "PUT":
                etag = f'"part-{next(self._numbers)}"'
                part = Part(request.size, etag, request.headers.get(CRC, ""))
                upload.parts[int(request.word("partNumber"))] = part
                return Answer(HTTPStatus.OK, {"etag": etag, **({CRC: part.crc} if part.crc else {})})
            case "GET":
                return self._list(request, upload)
            case "POST":
                del self._uploads[request.word("uploadId")]
                size = sum(part.size for part in upload.parts.values())
                etag = self._keep(upload.key, size, {**upload.kept, **kept(request.headers, CRC)})
                return Answer(HTTPStatus.OK, {}, xml("CompleteMultipartUploadResult", tag("ETag", etag)))
            case _:
                del self._uploads[request.word("uploadId")]
                return Answer(HTTPStatus.NO_CONTENT)

    @staticmethod
    def _list(request: Request, upload: Upload) -> Answer:
        after, most = (int(request.query.get(name, [str(other)])[0]) for name, other in PAGE.items())
        numbers = sorted(number for number in upload.parts if number > after)
        page = numbers[:most]
        lines = [tag("IsTruncated", str(len(numbers) > most).lower())]
        if page:
            lines.append(tag("NextPartNumberMarker", page[-1]))
        for number in page:
            part = upload.parts[number]
            crc = tag("ChecksumCRC64NVME", part.crc) if part.crc else ""
            told = tag("PartNumber", number) + tag("ETag", part.etag) + tag("Size", part.size) + crc
            lines.append(f"<Part>{told}</Part>")
        return Answer(HTTPStatus.OK, {}, xml("ListPartsResult", *lines))

    def _keep(self, key: str, size: int, headers: Headers) -> str:
        etag = f'"object-{next(self._numbers)}"'
        self._objects[key] = {
            **headers,
            "content-length": str(size),
            "etag": etag,
            "last-modified": formatdate(usegmt=True),
        }
        return etag


PAGE: Final = {"part-number-marker": 0, "max-parts": 1_000}


def kept(headers: Headers, only: str = "") -> Headers:
    """The headers that HEAD is to tell again."""
    return {name: value for name, value in headers.items() if (name == only if only else KEPT.fullmatch(name))}


class Connection:
    """One connection and the bytes of it that were read too far."""

    def __init__(self, sock: socket.socket, store: Store) -> None:
        self._socket = sock
        self._store = store
        self._ahead = b""

    def serve(self) -> None:
        """Answer until the other side has enough."""
        with self._socket:
            try:
                while (head := self._head()) is not None:
                    request = self._request(head)
                    self._reply(request.method, self._store.answer(request))
            except ConnectionError:
                pass  # nobody is left to be answered

    def _head(self) -> str | None:
        while (end := self._ahead.find(b"\r\n\r\n")) < 0:
            piece = self._socket.recv(HEAD_BYTES)
            if not piece:
                return None
            self._ahead += piece
        head, self._ahead = self._ahead[:end], self._ahead[end + 4 :]
        return head.decode("latin-1")

    def _request(self, head: str) -> Request:
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        parts = urlsplit(target)
        length = int(headers.get("content-length", 0))
        if "expect" in headers:
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._drop(length)
        key = unquote(parts.path).strip("/")
        size = int(headers.get("x-amz-decoded-content-length", length))
        return Request(method, key, parse_qs(parts.query, keep_blank_values=True), headers, size)

    def _drop(self, left: int) -> None:
        early = min(left, len(self._ahead))
        self._ahead = self._ahead[early:]
        left -= early
        while left:
            got = self._socket.recv_into(SINK, min(left, len(SINK)), socket.MSG_TRUNC | socket.MSG_WAITALL)
            if not got:
                raise ConnectionResetError("a body broke off")
            left -= got

    def _reply(self, method: str, answer: Answer) -> None:
        headers = {"date": formatdate(usegmt=True), **answer.headers}
        if answer.status is not HTTPStatus.NO_CONTENT:
            headers.setdefault("content-length", str(len(answer.body)))
        lines = [f"HTTP/1.1 {answer.status.value} {answer.status.phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        body = b"" if method == "HEAD" else answer.body
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


def main() -> None:
    """Serve on a loopback port until ended."""
    store = Store()
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1_024) as listening:
        while True:
            sock, _ = listening.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=Connection(sock, store).serve, daemon=True).start()


if __name__ == "__main__":
    main()
