"""A real store and its model, asked the same, each through its own provider; what comes of it is compared."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from cloud_mirror.simulator.models import SimulatedProvider, StoreModel
from cloud_mirror.simulator.models.store_provider import TAG
from cloud_mirror.wire.aws import AwsService
from cloud_mirror.wire.calls import HttpReply, HttpRequest
from cloud_mirror.wire.s3 import PARTS_PAGE, S3Provider
from cloud_mirror.wire.storage import (
    FaultKind,
    PartPage,
    PartReceipt,
    ServiceFault,
    StorageProvider,
    StoredObject,
    Upload,
)
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

    def __init__(self, s3: S3Provider, asker: Asker, aws: AwsService, prefix: str) -> None:
        self.s3, self.real, self.aws = s3, asker, aws
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

    def tags(self, key: str) -> None:
        """See that both have kept the same tags with an object; the provider writes tags, and reads none."""

        def read(reply: HttpReply) -> dict[str, str]:
            return {tag["Key"]: tag["Value"] for tag in self.aws.parse("GetObjectTagging", reply)["TagSet"]}

        real = outcome(lambda: self.real(self.aws.build("GetObjectTagging", {"Key": key}), read))
        kept = self.model.find(key)
        if kept is None:
            assert real is FaultKind.NOT_FOUND, real
        else:
            assert real == {name[len(TAG) :]: value for name, value in kept.kept if name.startswith(TAG)}

    def parts(self, key: str, ids: Callable[[StorageProvider], str]) -> list[tuple[PartReceipt, ...]] | FaultKind:
        """The pages of an upload's parts, which both list alike, or the kind of fault."""
        pages: list[tuple[PartReceipt, ...]] = []
        marker = ""
        while not pages or marker:

            def asking(provider: StorageProvider, marker: str = marker) -> Ask[PartPage]:
                return _short(provider.list_parts_request(key, ids(provider), marker)), provider.read_list_parts

            page = self.agree(asking)
            if isinstance(page, FaultKind):
                return page
            pages.append(page.parts)
            marker = page.next_marker
        return pages

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
    if "?" not in request.target:
        return request
    target = request.target.replace(f"max-parts={PARTS_PAGE}", f"max-parts={PAGE}")
    return replace(request, target=target if target != request.target else f"{target}&max-keys={PAGE}")


def same(real: Any, modelled: Any) -> bool:
    """Whether two outcomes are the same; S3 counts a life in whole seconds, and keeps metadata in no order."""
    match real, modelled:
        case StoredObject(), StoredObject():
            alike = replace(
                modelled, life_left_s=real.life_left_s, metadata=tuple(sorted(modelled.metadata))
            ) == replace(real, metadata=tuple(sorted(real.metadata)))
            return alike and abs(real.life_left_s - modelled.life_left_s) < 10.0
    return bool(real == modelled)
