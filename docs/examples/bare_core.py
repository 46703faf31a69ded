"""The core alone, driven by hand: nobody has asked for the object yet, and a worker is quick to copy it."""

from cloud_mirror import CacheManager, Policy, PoolPolicy, actions, redirect
from cloud_mirror.entry import Entry, Status
from cloud_mirror.events import ChangeDue, ClaimWon, CopyNotFound, EntryRead, EntryWritten, JobSent
from cloud_mirror.events import OriginApproved, RedirectEvent, Request, RequestJoined

URL = "https://origin.example/model.bin"
COPIED = Entry(Status.PRESENT, "worker", URL, epoch="0", expires_at_s=90_000.0, verified_at_s=1_000.0)
ANSWERS: dict[type[actions.RedirectAction], list[RedirectEvent]] = {  # what a shell gets from the world outside
    actions.ReadEntry: [EntryRead(entry, 1_000.0, 60.0, sequence=0, now_s=0.0) for entry in (None, COPIED)],
    actions.Claim: [ClaimWon()],
    actions.ProbeCopy: [CopyNotFound("0")],
    actions.CheckOrigin: [OriginApproved()],
    actions.SendJob: [JobSent()],
    actions.WriteEntry: [EntryWritten()],
    actions.AwaitChange: [ChangeDue()],
}

pool = CacheManager(Policy(), PoolPolicy("s3", "us-west-1", "bucket"), lambda key: f"https://bucket.example/{key}")
state = pool.flight(URL, token="random")
events: list[RedirectEvent] = [RequestJoined(Request(1, deadline_s=28.0))]
while events:
    state, asked = redirect.step(state, events.pop(0))
    for action in asked:
        print(type(action).__name__)
        if isinstance(action, actions.Respond):
            print(pool.answer(URL, action.response).header("location"))
        else:
            events.append(ANSWERS[type(action)].pop(0))
