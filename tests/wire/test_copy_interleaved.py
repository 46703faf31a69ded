"""Whole copies whose actions go on in any order, byte for byte: the machine, its procedures and the cargo together."""

from __future__ import annotations

import hashlib
import random
import re
from collections import deque
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror import copy
from cloud_mirror.copy_actions import KeepLease
from cloud_mirror.copy_events import CopyEvent, JobReceived
from cloud_mirror.copy_table import Phase, State
from cloud_mirror.plan import Plan
from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    Call,
    CloseBody,
    Done,
    HttpExchange,
    HttpReply,
    OpenBody,
    Procedure,
    ReadBody,
    RedisCommand,
    Reply,
)
from cloud_mirror.wire.cargo import Cargo, Lease
from cloud_mirror.wire.checksums import crc64nvme
from cloud_mirror.wire.procedures.copy import perform
from tests.wire.carrying import ETAG
from tests.wire.exchange import reply
from tests.wire.pools import BROKEN, SERVICES, URL, Script, completed, head, missing, scripted

CREATED = reply(200, "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>")


class World(Script):
    """An origin, and a store that remembers. Chance says when a body breaks off, and who goes on next."""

    def __init__(self, body: bytes, chance: random.Random, breaks: int, *, ranges: bool) -> None:
        super().__init__()
        self.body, self.chance, self.breaks, self.ranges = body, chance, breaks, ranges
        self.left: dict[int, bytes] = {}
        self.opened = 0
        self.parts: dict[int, bytes] = {}
        self.object: bytes | None = None
        self.copy_id = ""

    def perform(self, call: Call) -> Reply:
        """Its reply."""
        match call:
            case RedisCommand():
                return scripted()
            case HttpExchange():
                return self._serve(call)
            case OpenBody():
                return self._open(dict(call.request.headers))
            case CloseBody(body):
                self.left.pop(body, None)
                return Done()
        return super().perform(call)

    def read(self, call: ReadBody) -> Reply | None:
        """Feed one piece; None while the reading goes on."""
        left = self.left.get(call.body)
        if left is None:
            return BROKEN
        if not left:
            return BodyRead(ended=True)
        if self.ranges and self.breaks and self.chance.random() < 0.1:
            self.breaks -= 1
            return BROKEN
        size = self.chance.randint(1, len(left))
        self.left[call.body] = left[size:]
        return BodyRead(ended=False) if call.collector.feed(left[:size]) else None

    def _open(self, headers: dict[str, str]) -> BodyOpened:
        self.opened += 1
        first, last, status = 0, len(self.body) - 1, 200
        told = [("etag", ETAG), *([("accept-ranges", "bytes")] if self.ranges else [])]
        if span := re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("Range", "")):
            assert headers["If-Match"] == ETAG
            first, last, status = int(span[1]), int(span[2]), 206
            assert first <= last < len(self.body)
            told.append(("content-range", f"bytes {first}-{last}/{len(self.body)}"))
        self.left[self.opened] = self.body[first : last + 1]
        return BodyOpened(self.opened, status, (*told, ("content-length", str(last + 1 - first))))

    def _serve(self, call: HttpExchange) -> HttpReply:
        request, target = call.request, call.request.target
        headers = {name.lower(): value for name, value in request.headers}
        self.copy_id = headers.get("x-amz-meta-copy-id", self.copy_id)
        if request.method == "HEAD" and self.object is not None:
            crc = crc64nvme(self.object)
            return head(len(self.object), x_amz_meta_copy_id=self.copy_id, x_amz_checksum_crc64nvme=crc)
        if target.endswith("?uploads"):
            return CREATED
        if number := re.search(r"partNumber=(\d+)", target):
            self.parts[int(number[1])] = bytes(request.body)
        elif request.method == "POST" and "uploadId" in target:
            self.object = b"".join(self.parts[number] for number in sorted(self.parts))
            assert headers["x-amz-checksum-crc64nvme"] == crc64nvme(self.object)
            return completed()
        elif request.method == "PUT" and "tagging" not in target:
            self.object = bytes(request.body)
        if request.method in ("GET", "HEAD"):
            return missing()
        return reply(200, "{}" if request.method == "POST" else "", etag='"e"')


def carried_out(world: World, plan: Plan) -> tuple[State, Cargo]:
    """A copy, driven to its end by chance."""
    state = SERVICES.manager.copy("w", "copy-1")
    state = replace(state, rules=replace(state.rules, plan=plan))
    cargo = Cargo(URL, "receipt")
    events: deque[CopyEvent] = deque([JobReceived(URL, "0", 1)])
    running: list[tuple[Procedure[CopyEvent], Call]] = []

    def advance(procedure: Procedure[CopyEvent], answer: Any) -> None:
        try:
            running.append((procedure, procedure.send(answer)))
        except StopIteration as end:
            events.append(end.value)

    while events or running:
        if running and (not events or world.chance.random() < 0.7):
            at = world.chance.randrange(len(running))
            procedure, call = running[at]
            answer = world.read(call) if isinstance(call, ReadBody) else world.perform(call)
            if answer is not None:
                del running[at]
                advance(procedure, answer)
            continue
        state, actions = copy.step(state, events.popleft())
        for action in actions:
            if isinstance(action, KeepLease):
                cargo.lease = Lease(action.slot, action.token, 60.0)
            else:
                advance(perform(SERVICES, cargo, action), None)
    return state, cargo


@given(
    body=st.integers(0, 150).map(lambda size: random.Random(size).randbytes(size)),
    part_bytes=st.integers(1, 40),
    at_once=st.tuples(st.integers(1, 8), st.integers(1, 4)),
    breaks=st.integers(0, 5),
    ranges=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_every_order_of_answers_makes_the_same_object(
    body: bytes, part_bytes: int, at_once: tuple[int, int], breaks: int, ranges: bool, seed: int
) -> None:
    world = World(body, random.Random(seed), breaks, ranges=ranges)
    state, cargo = carried_out(world, Plan(part_bytes, *at_once))
    assert (state.phase, state.fault, state.detail) == (Phase.DONE, None, "")
    assert world.object == body
    assert state.sha256 == hashlib.sha256(body).hexdigest()
    assert cargo.acknowledged
    assert world.held_bytes == 0
    assert cargo.bodies == set(world.left) == set()
