"""Other programs that copy from HTTP to S3, set to what the mirror uses: parts of 16 MiB, four of them at once.

Over plain http the AWS libraries would hash each body for its signature, as they do not over TLS: where they can be
told not to, they are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Protocol

PART_MIB: Final = 16
UPLOADS: Final = 4


class Endpoint(Protocol):
    """Where a store is, and who may use it."""

    endpoint_url: str
    access_key: str
    secret_key: str
    region: str


@dataclass(frozen=True)
class Taken:
    """What a copy, or many, took."""

    seconds: float
    cpu_s: float


Contender = Callable[[int], Taken]
"""Somebody who copies, in the round of that number."""


def take_turns(
    contenders: Mapping[str, Contender], rounds: int, rate: Callable[[Taken], str]
) -> dict[str, list[Taken]]:
    """What each took, round by round: in each they copy one after the other. `rate` says how quick one was."""
    taken: dict[str, list[Taken]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, copy in contenders.items():
            each = copy(number)
            taken[name].append(each)
            print(f"round {number + 1}: {name:<24} {rate(each)} {each.cpu_s:>6.2f} s of CPU", flush=True)
    return taken


def run(command: Sequence[str], environment: dict[str, str] | None = None) -> tuple[Taken, str]:
    """Run a program to its end, which must be a good one; with those that it starts and waits for."""
    begun = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        said = process.stdout.read().decode()
        complaint = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{command} ended with {process.returncode}:\n{said}{complaint}")
    return Taken(time.monotonic() - begun, usage.ru_utime + usage.ru_stime), said


def curl_to_nowhere(url: str) -> Taken:
    """The ceiling: the same bytes from the origin, thrown away."""
    return run(["curl", "-sSf", "-o", "/dev/null", url])[0]


def curl_from_file(path: Path, store: Endpoint, bucket: str, key: str) -> Taken:
    """What a store takes in one PUT that nobody signs; only the forgetful one takes it."""
    return run(["curl", "-sSf", "-o", "/dev/null", "-T", str(path), f"{store.endpoint_url}/{bucket}/{key}"])[0]


def _rclone() -> str | None:
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else shutil.which("rclone")


def _rclone_environment(store: Endpoint) -> dict[str, str]:
    settings = {
        "CONFIG": "",
        "S3_PROVIDER": "Other",
        "S3_ENDPOINT": store.endpoint_url,
        "S3_ACCESS_KEY_ID": store.access_key,
        "S3_SECRET_ACCESS_KEY": store.secret_key,
        "S3_REGION": store.region,
        "S3_FORCE_PATH_STYLE": "true",
        "S3_NO_CHECK_BUCKET": "true",
        "S3_USE_UNSIGNED_PAYLOAD": "true",
        "S3_CHUNK_SIZE": f"{PART_MIB}Mi",
        "S3_UPLOAD_CONCURRENCY": str(UPLOADS),
    }
    return {**os.environ, **{f"RCLONE_{name}": value for name, value in settings.items()}}


class Rclone:
    """`rclone copyurl` for one, `rclone copy` from its HTTP remote for many."""

    name = "rclone"
    missing = "rclone is missing: install the extra `bench`, or rclone itself"

    @staticmethod
    def there() -> bool:
        """Whether it is installed."""
        return _rclone() is not None

    @staticmethod
    def copy(url: str, store: Endpoint, bucket: str, key: str) -> Taken:
        """Copy one object."""
        return run([_rclone() or "", "copyurl", url, f":s3:{bucket}/{key}"], _rclone_environment(store))[0]

    @staticmethod
    def copy_many(folder: str, _: Sequence[str], store: Endpoint, bucket: str, at_once: int) -> Taken:
        """Copy all that is in a folder, which it lists."""
        words = ["copy", ":http:", f":s3:{bucket}", "--http-url", f"{folder}/", "--transfers", str(at_once)]
        return run([_rclone() or "", *words, "--checkers", str(at_once)], _rclone_environment(store))[0]


class AwsCli:
    """`aws s3 cp -`, fed by curl: both programs together."""

    name = "aws s3 cp -, fed by curl"
    missing = "the AWS CLI is missing: install it in a virtual environment of its own (pip install awscli), on PATH"

    @staticmethod
    def there() -> bool:
        """Whether both are installed, and run."""
        found = shutil.which("aws"), shutil.which("curl")
        return None not in found and subprocess.run([str(found[0]), "--version"], capture_output=True).returncode == 0

    @staticmethod
    def copy(url: str, store: Endpoint, bucket: str, key: str) -> Taken:
        """Copy one object."""
        return AwsCli._run(f"curl -sSf {url} | aws s3 cp --quiet - s3://{bucket}/{key}", store)

    @staticmethod
    def copy_many(folder: str, names: Sequence[str], store: Endpoint, bucket: str, at_once: int) -> Taken:
        """Copy all, each by programs of its own."""
        one = f"curl -sSf {folder}/{{}} | aws s3 cp --quiet - s3://{bucket}/{{}}"
        return AwsCli._run(f"printf '%s\\n' {' '.join(names)} | xargs -P {at_once} -I {{}} sh -c '{one}'", store)

    @staticmethod
    def _run(script: str, store: Endpoint) -> Taken:
        transfer = f"multipart_chunksize = {PART_MIB}MB\n  max_concurrent_requests = {UPLOADS}\n"
        with tempfile.NamedTemporaryFile("w") as configuration:
            configuration.write(f"[default]\ns3 =\n  {transfer}")
            configuration.flush()
            environment = {
                **os.environ,
                "AWS_CONFIG_FILE": configuration.name,
                "AWS_ACCESS_KEY_ID": store.access_key,
                "AWS_SECRET_ACCESS_KEY": store.secret_key,
                "AWS_DEFAULT_REGION": store.region,
                "AWS_ENDPOINT_URL": store.endpoint_url,
            }
            return run(["sh", "-c", script], environment)[0]


class Boto3:
    """`upload_fileobj` of a urllib3 response, in a program of its own that times itself once it has imported all."""

    name = "boto3"
    missing = "boto3 is missing: install the extra `test`"
    s3: ClassVar[dict[str, bool]] = {}

    @staticmethod
    def there() -> bool:
        """It comes with moto."""
        return True

    @classmethod
    def copy(cls, url: str, store: Endpoint, bucket: str, key: str) -> Taken:
        """Copy one object."""
        return cls._run([[url, key]], store, bucket, 1)

    @classmethod
    def copy_many(cls, folder: str, names: Sequence[str], store: Endpoint, bucket: str, at_once: int) -> Taken:
        """Copy all, by a pool of threads."""
        return cls._run([[f"{folder}/{name}", name] for name in names], store, bucket, at_once)

    @classmethod
    def _run(cls, pairs: Sequence[Sequence[str]], store: Endpoint, bucket: str, at_once: int) -> Taken:
        told = {
            "pairs": pairs,
            "bucket": bucket,
            "at_once": at_once,
            "part_bytes": PART_MIB * 1024 * 1024,
            "uploads": UPLOADS,
            "s3": cls.s3,
            "client": {
                "endpoint_url": store.endpoint_url,
                "aws_access_key_id": store.access_key,
                "aws_secret_access_key": store.secret_key,
                "region_name": store.region,
            },
        }
        program = Path(__file__).with_name("boto3_peer.py")
        with subprocess.Popen(
            [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            said, _ = process.communicate(json.dumps(told))
        if process.returncode != 0:
            raise RuntimeError(f"boto3 ended with {process.returncode}")
        return Taken(**json.loads(said))


class Boto3Unsigned(Boto3):
    """The same with a signature that leaves the payload out, as boto3's does over TLS."""

    name = "boto3, payload unsigned"
    s3: ClassVar = {"payload_signing_enabled": False}
