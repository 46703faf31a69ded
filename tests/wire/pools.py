"""A pool that no server stands behind, for procedures that are driven by hand, and what they were seen to ask for."""

from typing import Any, Final, TypeVar

from cloud_mirror import keys
from cloud_mirror.host import Permit
from cloud_mirror.manager import CacheManager
from cloud_mirror.policy import Policy, PoolPolicy, QueuePolicy, SourcePolicy
from cloud_mirror.source import SourceRules
from cloud_mirror.wire.calls import (
    AwaitNotice,
    Backoff,
    Call,
    CloseBody,
    DigestBytes,
    Done,
    EnterHost,
    FailureKind,
    GetMonotonicTime,
    GetNoticeSequence,
    GetSigningMaterial,
    HostEntered,
    HttpExchange,
    HttpReply,
    MonotonicTime,
    NoticeSequence,
    OpenBody,
    Procedure,
    RedisCommand,
    RedisReply,
    ReleaseMemory,
    Reply,
    ReserveMemory,
    TransportFailure,
)
from cloud_mirror.wire.s3 import S3Provider
from cloud_mirror.wire.services import PoolServices
from cloud_mirror.wire.sqs import SqsQueue
from tests.wire.driving import drive
from tests.wire.exchange import KEYS, reply

T = TypeVar("T")

POOL: Final = PoolPolicy("s3", "us-west-1", "bucket", endpoint_url="http://127.0.0.1:1")
QUEUE: Final = QueuePolicy(endpoint_url="http://127.0.0.1:2")
SOURCE: Final = SourcePolicy((r"^https://a\.example/", r"^https://b\.example:8443/b/"))
POLICY: Final = Policy(queue=QUEUE, source=SOURCE, pools=(POOL,))
URL: Final = "https://a.example/some/file.bin"
KEY: Final = keys.entry_key(POOL.name, URL)
RENEWAL: Final = keys.renewal_key(POOL.name, URL)
NOTE: Final = keys.upload_key(POOL.name, URL)
BROKEN: Final = TransportFailure(FailureKind.BROKEN, "reset")


def services(policy: Policy = POLICY) -> PoolServices:
    """The pool's services."""
    pool = policy.pools[0]
    provider = S3Provider(pool)
    manager = CacheManager(policy, pool, provider.location)
    queue = SqsQueue(policy.queue)
    return PoolServices(
        manager, provider, queue, SourceRules(policy.source), "http://127.0.0.1:2/1/q", "http://q/1/dead"
    )


SERVICES: Final = services()


class Script:
    """Answers calls with canned replies, in order, and remembers them; time, memory and waiting need none."""

    def __init__(self, *replies: Reply) -> None:
        self.calls: list[Call] = []
        self.waits: list[Backoff | AwaitNotice] = []
        self.memory: list[ReserveMemory | ReleaseMemory] = []
        self.given: list[Reply] = []
        self.now_s = 100.0
        self._replies = list(replies)

    def perform(self, call: Call) -> Reply:
        """The next reply."""
        match call:
            case GetSigningMaterial():
                return KEYS
            case Backoff() | AwaitNotice():
                self.waits.append(call)
                return Done()
            case ReserveMemory() | ReleaseMemory():
                self.memory.append(call)
                return Done()
            case DigestBytes():
                return call.carry_out()
            case EnterHost(host):
                return HostEntered(Permit(host, 0), 0.0)
            case GetMonotonicTime():
                return MonotonicTime(self.now_s)
            case GetNoticeSequence():
                return NoticeSequence(7)
        self.calls.append(call)
        if isinstance(call, CloseBody):
            return Done()
        assert self._replies, f"nobody said what to answer to {call}"
        self.given.append(self._replies.pop(0))
        return self.given[-1]

    def drive(self, procedure: Procedure[T]) -> T:
        """What the procedure returns."""
        return drive(procedure, self.perform)

    def run(self, procedure: Procedure[T]) -> T:
        """What the procedure returns; every reply must have been asked for."""
        value = self.drive(procedure)
        assert self._replies == [], f"never asked for: {self._replies}"
        return value

    @property
    def held_bytes(self) -> int:
        """The memory that was reserved and not given back."""
        return sum(call.size_bytes if isinstance(call, ReserveMemory) else -call.size_bytes for call in self.memory)

    @property
    def said(self) -> list[str]:
        """The calls in few words."""
        return [_words(call) for call in self.calls]


def _words(call: Call) -> str:
    match call:
        case HttpExchange(request=request):
            operation = dict(request.headers).get("X-Amz-Target", "").rpartition(".")[2]
            return operation or f"{request.method} {request.target}"
        case OpenBody(request=request):
            return f"{request.method} {request.url}"
        case CloseBody(body):
            return f"close {body}"
        case RedisCommand(words=("EVALSHA", _, _, key, target, operation, condition, token, _, _, channel, notice, *_)):
            to = f" to {_slot(target)}" if target != key else ""
            assert (channel, notice) in (("", ""), (SERVICES.manager.channel, KEY))
            heard = ", told" if channel else ""
            return f"{operation!s} {_slot(key)}{to} if {condition!s} {token!s}".rstrip() + heard
        case RedisCommand(words=words):
            return " ".join(map(str, words))
        case _:
            return type(call).__name__


def _slot(key: str | bytes) -> str:
    return {KEY: "entry", RENEWAL: "renewal", NOTE: "note"}[str(key)]


def written(call: Call) -> dict[str, str]:
    """The fields that a call to the script writes, and its life in milliseconds as `life_ms`."""
    assert isinstance(call, RedisCommand)
    words = [str(word) for word in call.words[12:]]
    return dict(zip(words[::2], words[1::2], strict=True)) | {"life_ms": str(call.words[9])}


def scripted(done: bool = True, *, fields: dict[str, str] | None = None, life_ms: int = 5_000) -> RedisReply:
    """The script's answer: whether it did as asked, and what it found."""
    found = [text.encode() for pair in (fields or {}).items() for text in pair]
    words: list[Any] = [int(done), b"1000.500000", life_ms if fields else -2, *found]
    return RedisReply(words)


def error(status: int, code: str) -> HttpReply:
    """A failure as S3 writes it."""
    return reply(status, f"<Error><Code>{code}</Code><Message>said the store</Message></Error>")


def missing() -> HttpReply:
    """There is no such object."""
    return error(404, "NoSuchKey")


def head(size: int = 3, **headers: str) -> HttpReply:
    """An object that is there, stored an hour ago, as a copy of `URL`."""
    kept = {
        "content_length": str(size),
        "etag": '"e"',
        "date": "Tue, 03 Feb 2026 05:05:06 GMT",
        "last_modified": "Tue, 03 Feb 2026 04:05:06 GMT",
        "x_amz_meta_url_sha256": keys.url_sha256(URL),
        "x_amz_meta_copy_id": "copy-1",
    }
    return reply(200, **(kept | headers))


def sent(script: Script, at: int = 0) -> tuple[dict[str, str], bytes]:
    """Headers and body of a request to the store."""
    call = script.calls[at]
    assert isinstance(call, HttpExchange)
    return {name.lower(): value for name, value in call.request.headers}, bytes(call.request.body)


def completed(body: str = "") -> HttpReply:
    """An upload is completed."""
    return reply(200, body or "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")
