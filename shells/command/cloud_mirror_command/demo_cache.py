"""The demo's cache: fakeredis over TCP, made to speak RESP3 as Redis does where a client subscribes."""

from __future__ import annotations

from typing import Any, Final

from fakeredis import TcpFakeServer
from fakeredis._clients._tcp_server import TCPFakeRequestHandler, Writer, encode_reply  # it has no public seam here

_PUSHED: Final = (b"subscribe", b"unsubscribe", b"message")


class PushingCache(TcpFakeServer):
    """To a client of RESP3 fakeredis sends messages as arrays, which it takes for replies; here they are pushes."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, server_type="redis")
        self.RequestHandlerClass = _Handler
        self.daemon_threads = True


class _Handler(TCPFakeRequestHandler):
    def setup(self) -> None:
        super().setup()
        self.writer = _Writer(self.client_address, self.wfile, self)


class _Writer(Writer):
    def dump(self, value: Any) -> None:
        protocol = self.request_handler.protocol_version
        reply = encode_reply(value, protocol)
        if protocol == 3 and isinstance(value, list) and value and value[0] in _PUSHED:
            reply = b">" + reply[1:]
        self.write(reply)
        self.writer.flush()
