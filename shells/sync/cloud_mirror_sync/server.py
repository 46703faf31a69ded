"""HTTP by h11: one thread moves the bytes of all connections; a request that has to wait holds a thread of its own.

So a connection without a request, a slow head and a slow reader cost no thread, and a client that leaves is noticed at
once. All that is known of HTTP is in `cloud_mirror.wire.http_server`; only the one thread touches a connection, and
what the others have to say reaches it as a function to call.
"""

from __future__ import annotations

import logging
import math
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from cloud_mirror.http_api import Answer, PurgeRoute, RedirectRoute
from cloud_mirror.wire.desk import BROKEN, head_bytes
from cloud_mirror.wire.http_server import Close, EndOutput, NeedData, RequestHead, RequestRefused, ServerConnection
from cloud_mirror.wire.listener import NOBODY_NEW
from cloud_mirror_sync.mirror import Mirror
from cloud_mirror_sync.stop import Stop, StoppedError

BACKLOG: Final = 1_024
READ_BYTES: Final = 64 * 1024
PURGES: Final = 4
"""Purges at once. They are the operator's own, and wait for each other rather than for waiters."""

LOOK_S: Final = 0.25
"""How late a deadline may be noticed: all connections are looked through that often."""

log = logging.getLogger("cloud_mirror.server")


class Client:
    """One connection: its socket, what is still to be sent on it, and how to say that the client has left."""

    def __init__(self, sock: socket.socket, connection: ServerConnection) -> None:
        self.sock = sock
        self.connection = connection
        self.unsent = memoryview(b"")
        self.watched = 0
        self.answered = 0  # how many of its requests were; what is found for an earlier one comes too late
        self.left = Stop()

    @property
    def late(self) -> bool:
        """Whether it is time to ask the connection again even though nothing came."""
        due_s = self.connection.deadline_s
        return due_s is not None and time.monotonic() >= due_s

    def send(self) -> None:
        """Send what the system takes of it."""
        try:
            self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            pass  # the system says when it takes more
        except OSError:
            self.connection.receive(b"", time.monotonic())  # nobody is there to take it
            self.unsent = memoryview(b"")


class Server:
    """Serves a mirror on one listening socket, from `start` until it is closed. Raises `OSError` where it cannot."""

    def __init__(self, mirror: Mirror, host: str, port: int) -> None:
        self._mirror = mirror
        self._policy = mirror.policy.server
        self._head_bytes = head_bytes(mirror.policy.source)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._clients: set[Client] = set()
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._accepting = self._listening = False
        self._ends_at_s: float | None = None
        self._waiters = ThreadPoolExecutor(self._policy.threads, "request")
        self._purges = ThreadPoolExecutor(PURGES, "purge")
        self._thread = threading.Thread(target=self._run, name="server")

    def start(self) -> None:
        """Begin to serve."""
        self._listening = True
        self._thread.start()

    def stop_listening(self) -> None:
        """Take no new connections; those that are there are served on."""
        self._call(self._stop_listening)

    def close(self, within_s: float) -> None:
        """Close all connections: each once nothing is under way on it, all when the time is up."""

        def end() -> None:
            self._stop_listening()
            for client in tuple(self._clients):
                client.connection.finish()
                self._advance(client)
            self._ends_at_s = time.monotonic() + within_s

        self._call(end)
        self._thread.join()
        self._waiters.shutdown()
        self._purges.shutdown()
        self._wake_writer.close()

    def _call(self, function: Callable[[], None]) -> None:
        """Have the server's thread call a function."""
        self._calls.put(function)
        with suppress(OSError):  # it is awake, or has ended
            self._wake_writer.send(b"\0")

    def _run(self) -> None:
        """What the server's thread does."""
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        next_look_s = 0.0
        try:
            while self._goes_on():
                if time.monotonic() >= next_look_s:
                    next_look_s = time.monotonic() + LOOK_S
                    self._look_through()
                for key, ready in self._selector.select(self._patience_s()):
                    self._on_ready(key.data, key.fileobj, ready)
                while not self._calls.empty():
                    self._calls.get()()
        except Exception as error:  # noqa: BLE001  # it is logged
            self._mirror.broke_off(error)
        finally:
            for client in tuple(self._clients):
                self._close(client)
            self._listener.close()
            self._selector.close()
            self._wake_reader.close()

    def _goes_on(self) -> bool:
        return self._ends_at_s is None or (bool(self._clients) and time.monotonic() < self._ends_at_s)

    def _patience_s(self) -> float | None:
        looking = self._clients or self._accepting is not self._listening or self._ends_at_s is not None
        return LOOK_S if looking else None

    def _look_through(self) -> None:
        """What is due, though nothing came: deadlines, the end of idle connections, and room for new ones."""
        for client in tuple(self._clients):
            if client.late and client.connection.wants_data:
                self._receive(client)  # what came while this process was busy
            if client in self._clients and client.late:
                self._advance(client)
        if self._listening and not self._accepting and len(self._clients) < self._policy.max_connections:
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._accepting = True

    def _stop_accepting(self) -> None:
        if self._accepting:
            self._selector.unregister(self._listener)
        self._accepting = False

    def _stop_listening(self) -> None:
        """Take those that still wait, however many there are, and then nobody."""
        if not self._listening:
            return
        self._stop_accepting()
        self._listening = False
        with suppress(OSError):  # not everywhere
            self._listener.setsockopt(*NOBODY_NEW)
        self._accept(math.inf)
        self._listener.close()

    def _on_ready(self, client: Client | None, source: object, ready: int) -> None:
        if source is self._wake_reader:
            self._wake_reader.recv(READ_BYTES)
        elif client is None:
            self._accept(self._policy.max_connections)
        else:
            if ready & selectors.EVENT_WRITE:
                client.send()
                if not client.unsent:
                    self._advance(client)
            if ready & selectors.EVENT_READ and client in self._clients:
                self._receive(client)

    def _accept(self, room: float) -> None:
        """Take all connections that wait: of those that overflow the system's queue, it resets some."""
        while len(self._clients) < room:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return  # there are no more
            except OSError:
                log.exception("no connection can be taken just now")  # out of files, most likely
                break
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = Client(sock, ServerConnection(self._policy, time.monotonic(), self._head_bytes))
            self._clients.add(client)
            self._watch(client)
        self._stop_accepting()

    def _receive(self, client: Client) -> None:
        try:
            data = client.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.connection.receive(data, time.monotonic())
        if not data or not client.unsent:
            self._advance(client)
        else:
            self._watch(client)  # it may have said enough for now

    def _advance(self, client: Client, answer: Answer | None = None) -> None:
        """Do all that can be done on a connection now, after an answer if one was found. What breaks here ends this
        connection and no other.
        """
        try:
            if answer is not None:
                self._answer(client, answer)
            if answer is not None and client.unsent:
                self._watch(client)
            else:
                self._converse(client)
        except Exception:
            log.exception("a connection broke off")
            self._close(client)

    def _converse(self, client: Client) -> None:
        while True:
            match client.connection.next_event(time.monotonic()):
                case NeedData():
                    break
                case RequestHead() as head:
                    self._handle(client, head)
                case RequestRefused(answer):
                    self._answer(client, answer)
                case EndOutput():
                    try:
                        client.sock.shutdown(socket.SHUT_WR)
                    except OSError:
                        client.connection.receive(b"", time.monotonic())
                case Close():
                    self._close(client)
                    return
            if client.unsent:
                break
        self._watch(client)

    def _watch(self, client: Client) -> None:
        wanted = selectors.EVENT_READ if client.connection.wants_data else 0
        wanted |= selectors.EVENT_WRITE if client.unsent else 0
        if wanted == client.watched:
            return
        if not client.watched:
            self._selector.register(client.sock, wanted, client)
        elif not wanted:
            self._selector.unregister(client.sock)
        else:
            self._selector.modify(client.sock, wanted, client)
        client.watched = wanted

    def _close(self, client: Client) -> None:
        if client.watched:
            self._selector.unregister(client.sock)
        self._clients.discard(client)
        client.sock.close()
        client.left.set()

    def _handle(self, client: Client, head: RequestHead) -> None:
        """Answer a request at once, or let a thread of its own wait for the answer."""
        mirror, desk = self._mirror, self._mirror.desk
        try:
            route = desk.read(head.method, head.target, head.headers, mirror.draining)
            match route:
                case Answer():
                    self._answer(client, route)
                case RedirectRoute(pool, url) as asked:
                    at_once = mirror.enter(pool)
                    if at_once is not None:
                        self._answer(client, desk.redirected(asked, at_once))
                        return
                    self._begin(
                        self._waiters,
                        client,
                        lambda: desk.redirected(asked, mirror.answer(pool, url.text, client.left)),
                    )
                case PurgeRoute(pool, url):
                    self._begin(self._purges, client, lambda: desk.purged(mirror.purge(pool, url.text)))
        except Exception:
            log.exception("a request could not be answered")
            self._answer(client, BROKEN)

    def _begin(self, threads: Executor, client: Client, find: Callable[[], Answer]) -> None:
        def work() -> None:
            try:
                answer = find()
            except StoppedError:
                return  # the client has left
            except Exception:
                log.exception("a request could not be answered")
                answer = BROKEN
            self._call(lambda: self._deliver(client, number, answer))

        number = client.answered
        threads.submit(work)  # what cannot have its thread raises here, and is done all the same once there is one

    def _deliver(self, client: Client, number: int, answer: Answer) -> None:
        if client in self._clients and client.answered == number:
            self._advance(client, answer)

    def _answer(self, client: Client, answer: Answer) -> None:
        client.answered += 1
        last = self._mirror.draining
        client.unsent = memoryview(client.connection.respond(answer, time.monotonic(), time.time(), last))
        client.send()
