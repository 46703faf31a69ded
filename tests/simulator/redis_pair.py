"""A real Redis and its model, asked the same: every reply is compared, and in the end every notice."""

from typing import Any

from hypothesis import strategies as st

from cloud_mirror.actions import Draft
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.reason import Reason
from cloud_mirror.simulator.models import RedisModel
from cloud_mirror.wire.calls import Call, RedisCommand, RedisRefusal, RedisReply, Reply
from tests.servers.processes import wait_until
from tests.wire.caches import Cache
from tests.wire.pools import URL

TOKENS = st.sampled_from(["t1", "t2"])
EPOCHS = st.sampled_from(["", "e1", "e2"])
ENTRIES = st.one_of(
    st.builds(lambda t, h, e: Entry(Status.PENDING, t, URL, h, epoch=e), TOKENS, st.sampled_from(Holder), EPOCHS),
    st.builds(lambda t, e: Entry(Status.PRESENT, t, URL, epoch=e), TOKENS, EPOCHS.filter(bool)),
    st.builds(lambda t: Entry(Status.ERROR, t, URL, reason=Reason.DEADLINE), TOKENS),
)
"""Entries of every kind, by few holders."""

SLACK_MS = 2_000
"""How far two clocks that are read one after the other may be apart on a busy machine; lives are far longer."""


def draft_of(entry: Entry) -> Draft:
    """The entry as a draft that lives for long."""
    return Draft(entry, 600.0, 600.0 if entry.status is Status.PRESENT else None, 5.0)


class RedisPair:
    """Performs a command on both. The model is told the time that the server's own reply names."""

    def __init__(self, cache: Cache, channel: str) -> None:
        self.cache = cache
        self.model = RedisModel()
        self.channel = channel
        self._listening = cache.listening(channel)
        cache.forget()
        self._heard = self._listening.__enter__()
        self._expected: list[str] = []

    def close(self) -> None:
        """Compare what was published (once, for fakeredis takes its time to pass a notice on), and stop listening."""
        try:
            assert self._heard() == self._expected
        finally:
            self._listening.__exit__(None, None, None)

    def perform(self, call: Call) -> Reply:
        """The real reply, once it is seen to be the model's."""
        assert isinstance(call, RedisCommand)
        real = self.cache.perform(call)
        executed = self.model.execute(call.words, time_in(real) or self.cache.now_s())
        self._expected += [message for channel, message in executed.notices if channel == self.channel]
        self._compare(real, executed.reply)
        return real

    def _compare(self, real: object, modelled: RedisReply | RedisRefusal) -> None:
        match real, modelled:
            case RedisReply([done, now, life, *rest]), RedisReply([m_done, _, m_life, *m_rest]):
                assert (done, now) == (m_done, now)
                assert abs(life - m_life) < SLACK_MS
                assert named(rest) == named(m_rest)
            case RedisRefusal(message), RedisRefusal(expected):
                assert expected.partition(" ")[0] in message
            case _:
                assert isinstance(real, RedisReply)
                assert isinstance(modelled, RedisReply)

    def gone(self, key: str) -> None:
        """Wait until the server has let a key of short life go, and the model with it."""
        wait_until(lambda: not self.cache.client.exists(key), 10.0, lambda: f"{key} does not expire")
        self.model.expire(self.cache.now_s() + 0.001)

    def spoil(self, key: str, name: str, value: bytes) -> None:
        """Set a field of the hash that is there, if any, to whatever it is."""
        if self.cache.client.type(key) == b"hash":
            self.cache.client.hset(key, name, value)
        self.model.spoil(key, {name: value})

    def replace(self, key: str) -> None:
        """Put what is no hash in a key's place."""
        self.cache.client.set(key, "no hash")
        self.model.replace(key)

    def persist(self, key: str) -> None:
        """Take away the end of a key's life."""
        self.cache.client.persist(key)
        self.model.persist(key)

    def evict(self, key: str) -> None:
        """Lose a key."""
        self.cache.client.delete(key)
        self.model.evict(key)

    def flush(self) -> None:
        """Lose every key."""
        self.cache.client.flushall()
        self.model.flush()

    def forget_scripts(self) -> None:
        """Lose the script."""
        self.cache.client.script_flush()
        self.model.forget_scripts()

    def image(self, *keys: str) -> "Image":
        """All that both hold now."""
        return Image(self, keys)


class Image:
    """What both held at a moment; `restore` brings it back, and nothing else."""

    def __init__(self, pair: RedisPair, keys: tuple[str, ...]) -> None:
        self._pair = pair
        self._model = pair.model.image()
        client: Any = pair.cache.client
        held = [(key, client.dump(key), client.pexpiretime(key)) for key in keys]
        self._dumps = [(key, dump, until) for key, dump, until in held if dump is not None]

    def restore(self) -> None:
        """Hold it again."""
        cache = self._pair.cache
        cache.client.flushall()
        for key, dump, until in self._dumps:  # fakeredis takes no ABSTTL
            cache.client.restore(key, 0 if until < 0 else max(1, until - int(cache.now_s() * 1000)), dump)
        self._pair.model.restore(self._model)


def time_in(reply: object) -> float | None:
    """The time that a reply of the script names."""
    match reply:
        case RedisReply([int(), bytes(now), int(), *_]):
            return float(now)
    return None


def named(words: list[bytes]) -> dict[bytes, object]:
    """A hash, its times as numbers to a hundredth of a millisecond."""
    pairs = zip(words[::2], words[1::2], strict=True)
    return {name: round(float(text), 5) if name in TIMES and text else text for name, text in pairs}


TIMES = (b"since", b"expires_at", b"verified_at", b"retry_at")
