"""The lease machine's actions as procedures."""

from __future__ import annotations

from cloud_mirror.lease import ExtendVisibility, LeaseAction, LeaseEvent, RenewLease
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.procedures import cache, jobs
from cloud_mirror.wire.services import PoolServices


def perform(services: PoolServices, url: str, receipt: str, action: LeaseAction) -> Procedure[LeaseEvent]:
    """The procedure that carries an action out and gives the event that answers it."""
    match action:
        case RenewLease(slot, token, life_s):
            return (yield from cache.renew(services, url, token, slot, life_s))
        case ExtendVisibility(for_s):
            return (yield from jobs.extend_visibility(services, receipt, for_s))
        case _:
            raise AssertionError("waiting and reporting are the shell's to do")
