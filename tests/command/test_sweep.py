"""`cloud-mirror setup --sweep`: that it does what it says, what it shows, and what it refuses."""

import secrets
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cloud_mirror import keys
from cloud_mirror.policy import PoolPolicy
from cloud_mirror.wire.s3 import S3Provider
from cloud_mirror.wire.storage import ObjectAttributes
from cloud_mirror_command.main import app
from tests.servers import Moto
from tests.wire.exchange import Asker

KEY = keys.object_key("https://origin.example/a.bin", "0")


@pytest.fixture
def bucket(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> PoolPolicy:
    """A bucket of moto's, where every upload was begun in 2010, and a configuration that names it."""
    pool = PoolPolicy("s3", "us-west-1", f"sweep-{secrets.token_hex(6)}", endpoint_url=moto.url)
    Path("cloud-mirror.toml").write_text(
        f"[[pool]]\nservice = 's3'\nregion = '{pool.region}'\nbucket = '{pool.bucket}'\nendpoint_url = '{moto.url}'\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    return pool


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["setup", *words])


def begin(pool: PoolPolicy, *names: str) -> None:
    s3 = S3Provider(pool)
    ask = Asker(s3, "test", "test")
    step = s3.setup_steps()[0]
    ask(step.request, lambda reply: s3.read_setup(step, reply))
    for name in names:
        ask(s3.create_upload_request(name, ObjectAttributes()), s3.read_create_upload)


def left(pool: PoolPolicy) -> list[str]:
    s3 = S3Provider(pool)
    page = Asker(s3, "test", "test")(s3.list_uploads_request(""), s3.read_list_uploads)
    return [upload.key for upload in page.uploads]


@pytest.mark.parametrize("shell", ["asyncio", "trio", "sync"])
def test_a_sweep_aborts_what_was_left_behind_and_says_so(bucket: PoolPolicy, shell: str) -> None:
    begin(bucket, KEY, "notes/mine", KEY)
    result = run("--sweep", "--shell", shell)
    assert (result.exit_code, result.stderr) == (0, "")
    step = "done          s3_us-west-1: abort uploads that were begun more than 2 days ago: 2 aborted"
    assert result.stdout.splitlines() == [step, "All 1 steps are done."]
    assert left(bucket) == ["notes/mine"]


def test_how_old_an_upload_must_be_can_be_said(bucket: PoolPolicy) -> None:
    begin(bucket, KEY)
    result = run("--sweep", "--older-than", "36500")
    assert result.exit_code == 0
    assert "begun more than 36500 days ago: 0 aborted, 1 left\n" in result.stdout
    assert left(bucket) == [KEY]


def test_a_sweep_that_cannot_be_made_fails_and_says_what_to_do(bucket: PoolPolicy) -> None:
    result = run("--sweep")
    assert result.exit_code == 1
    assert "failed        s3_us-west-1: abort uploads" in result.stdout
    assert "NoSuchBucket" in result.stdout
    assert "run `cloud-mirror setup`\n" in result.stdout
    assert result.stdout.endswith("1 of 1 steps failed.\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sweep", "--older-than", "0.2"), "--older-than: give at least 0.25 (worker.max_copy_s): "),
        (("--sweep", "--older-than", "-1"), "--older-than: give at least 0.25 (worker.max_copy_s): "),
        (("--sweep", "--older-than", "nan"), "--older-than: give at least 0.25 (worker.max_copy_s): "),
        (("--older-than", "3"), "--older-than is for sweeping: add --sweep, or leave it out"),
    ],
)
def test_what_would_not_be_heeded_or_would_end_copies_is_refused(
    bucket: PoolPolicy, words: tuple[str, ...], said: str
) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith(said)
