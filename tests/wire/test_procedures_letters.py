"""Dead letters as an operator sees them: listed, read whatever they hold, sent again in the safe order, dropped."""

import json

import pytest

from cloud_mirror import keys
from cloud_mirror.message import Job, MessageError, to_body
from cloud_mirror.wire.asking import Failed
from cloud_mirror.wire.calls import HttpReply, Reply
from cloud_mirror.wire.procedures import letters
from cloud_mirror.wire.procedures.letters import Letter
from tests.wire.exchange import reply
from tests.wire.pools import POOL, SERVICES, URL, Script, error, missing

JOB = Job(POOL.name, URL, "e1")
BODY = to_body(JOB)
KEPT = {"v": 1, "message_id": "m", "receive_count": 3, "reason": "copy-failed", "detail": "", "body": BODY}
LETTER = Letter("ab12", JOB, "copy-failed", "", 3, BODY)
FOUND = [reply(200, json.dumps({"QueueUrl": f"http://127.0.0.1:2/1/{name}"})) for name in ("q", "q-dead")]
SENT = reply(200, json.dumps({"MessageId": "m"}))
NO_QUEUE = reply(400, json.dumps({"__type": "com.amazonaws.sqs#QueueDoesNotExist"}))
DENIED = reply(400, json.dumps({"__type": "com.amazonaws.sqs#AccessDeniedException", "message": "no"}))
GONE = reply(204)


def listed(*names: str, more: str = "") -> HttpReply:
    each = "".join(f"<Contents><Key>{keys.letter_key(name)}</Key></Contents>" for name in names)
    cut = f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>"
    after = f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    return reply(200, f"<ListBucketResult>{cut}{after}{each}</ListBucketResult>")


def test_letters_are_listed_page_by_page_but_for_what_is_gone_by_then() -> None:
    kept = reply(200, json.dumps(KEPT))
    script = Script(listed("ab12", "cd34", more="on"), kept, missing(), listed("ef56"), kept)
    found = script.run(letters.list_letters(SERVICES))
    assert found == (LETTER, Letter("ef56", JOB, "copy-failed", "", 3, BODY))
    assert script.said[1] == "GET /bucket/dead/ab12"
    assert LETTER.url == URL


@pytest.mark.parametrize("replies", [[error(403, "AccessDenied")], [listed("ab12"), error(403, "AccessDenied")]])
def test_letters_that_cannot_be_read_are_no_letters_fewer(replies: list[Reply]) -> None:
    found = Script(*replies).run(letters.list_letters(SERVICES))
    assert isinstance(found, Failed)
    assert found.denied


@pytest.mark.parametrize(
    "kept",
    [b"", b"[]", b"7", b"\xff", b"{}", b"[" * 100_000, json.dumps(KEPT | {"receive_count": "3"}).encode()],
    ids=["empty", "list", "number", "binary", "nothing", "deep", "other-type"],
)
def test_whatever_lies_there_is_a_letter(kept: bytes) -> None:
    letter = letters.read_letter(SERVICES, "ab12", kept)
    assert isinstance(letter.job, MessageError)
    assert (letter.name, letter.url, letter.detail) == ("ab12", "", "the object is no letter of this version")


def test_a_letter_of_what_was_no_job_says_why() -> None:
    letter = letters.read_letter(SERVICES, "ab12", json.dumps(KEPT | {"body": "no job", "detail": "why"}).encode())
    assert (str(letter.job), letter.detail, letter.body) == ("the message is not JSON", "why", "no job")


def test_a_job_is_sent_again_under_the_present_epoch_and_then_its_letter_is_dropped() -> None:
    script = Script(*FOUND, reply(200, "e2"), SENT, GONE)
    assert script.run(letters.redrive(SERVICES, LETTER)) == ""
    assert script.said[-2:] == ["SendMessage", "DELETE /bucket/dead/ab12"]
    sent = json.loads(bytes(script.calls[-2].request.body))  # type: ignore[union-attr]  # it was an HTTP exchange
    assert sent["MessageBody"] == to_body(Job(POOL.name, URL, "e2"))


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ([NO_QUEUE], "there is no queue"),
        ([*FOUND, error(403, "AccessDenied"), error(403, "AccessDenied")], "the store cannot be read"),
        ([*FOUND, missing(), DENIED], "the job cannot be sent"),
        ([*FOUND, missing(), SENT, error(403, "AccessDenied")], "the letter cannot be deleted"),
    ],
)
def test_what_stands_in_the_way_is_told(replies: list[Reply], why: str) -> None:
    assert Script(*replies).run(letters.redrive(SERVICES, LETTER)).startswith(why)


def test_what_is_no_job_is_not_sent_again() -> None:
    letter = Letter("ab12", MessageError("the message is not JSON"), "job-malformed")
    assert Script().run(letters.redrive(SERVICES, letter)) == "there is no job in it: the message is not JSON"
