"""A real store and its model, asked the same, each through its own provider; what comes of it is compared."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from cloud_mirror.simulator.models import SimulatedProvider, StoreModel
from cloud_mirror.wire.calls import HttpReply, HttpRequest
from cloud_mirror.wire.s3 import S3Provider
from cloud_mirror.wire.storage import FaultKind, ServiceFault, StorageProvider, StoredObject, Upload
from tests.wire.exchange import Asker

T = TypeVar("T")
Ask = tuple[HttpRequest, Callable[[HttpReply], T]]
PAGE = 2


def outcome(answer: Callable[[], T]) -> T | FaultKind:
    """What the answer is, or which kind of fault."""
    try:
        return answer()
    except ServiceFault as fault:
        return fault.kind


class StorePair:
    """`ask` is given what to ask a provider, and asks both."""

    def __init__(self, s3: S3Provider, asker: Asker, prefix: str) -> None:
        self.s3, self.real = s3, asker
        self.simulated, self.model = SimulatedProvider(), StoreModel(page=PAGE, repeats=True)
        self.prefix = prefix

    def simulate(self, request: HttpRequest, read: Callable[[HttpReply], T]) -> T:
        """What the model's reply says."""
        return read(self.model.handle(request, time.time()))

    def both(self, asking: Callable[[StorageProvider], Ask[T]]) -> tuple[T | FaultKind, T | FaultKind]:
        """What both say: the server first."""
        return outcome(lambda: self.real(*asking(self.s3))), outcome(lambda: self.simulate(*asking(self.simulated)))

    def agree(self, asking: Callable[[StorageProvider], Ask[T]], *known: tuple[FaultKind, FaultKind]) -> T | FaultKind:
        """What both say, which is the same but for `known` differences."""
        real, modelled = self.both(asking)
        assert same(real, modelled) or (real, modelled) in known, (real, modelled)
        return real

    def head(self, key: str) -> None:
        """See that both know the same of an object."""
        self.agree(lambda provider: (provider.head_request(key), provider.read_head))

    def listed(self) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
        """The pages of all objects, by the server and by the model."""
        pages: list[list[tuple[str, ...]]] = []
        for provider, ask in ((self.s3, self.real), (self.simulated, self.simulate)):
            pages.append([])
            marker = ""
            while not pages[-1] or marker:
                request = provider.list_objects_request(self.prefix, marker)
                page = ask(_short(request), provider.read_list_objects)
                pages[-1].append(page.keys)
                marker = page.next_marker
        return pages[0], pages[1]

    def uploads(self) -> tuple[list[Upload], list[Upload]]:
        """All uploads, by the server (in one page: SeaweedFS names no end of a short one) and by the model."""
        found: list[list[Upload]] = []
        for provider, ask in ((self.s3, self.real), (self.simulated, self.simulate)):
            found.append([])
            marker = ""
            while not found[-1] or marker:
                page = ask(provider.list_uploads_request(self.prefix, marker), provider.read_list_uploads)
                found[-1] += page.uploads
                marker = page.next_marker
                if not page.uploads:
                    break
        return found[0], found[1]


def _short(request: HttpRequest) -> HttpRequest:
    """The request for a short page; the model's pages are short already."""
    return replace(request, target=f"{request.target}&max-keys={PAGE}") if "?" in request.target else request


def same(real: Any, modelled: Any) -> bool:
    """Whether two outcomes are the same; S3 counts a life in whole seconds, and keeps metadata in no order."""
    match real, modelled:
        case StoredObject(), StoredObject():
            alike = replace(
                modelled, life_left_s=real.life_left_s, metadata=tuple(sorted(modelled.metadata))
            ) == replace(real, metadata=tuple(sorted(real.metadata)))
            return alike and abs(real.life_left_s - modelled.life_left_s) < 10.0
    return bool(real == modelled)
