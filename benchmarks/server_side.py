"""A large object that lies in another bucket of the pool's own store: how many of its bytes go through the worker?

SeaweedFS holds both buckets. The worker reaches it through a relay alone, as its origin and as its store, so that the
relay counts all that any of its sockets to either sends and receives.

Exit status 1 where the copy is not exact, or the worker's sockets saw more than a hundredth of its bytes.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from typing import Any, Final

from benchmarks import page
from benchmarks.copying import GIB, MIB, Bench, Ground, bench, cpu_s, ground
from benchmarks.relay import Relay, Way
from tests.fleet import SHELLS

BUCKET: Final = "elsewhere"
OBJECT: Final = "large.bin"
MOST_THROUGH: Final = 0.01
HEAD: Final = ("shell", "to the worker", "from the worker", "of the object", "seconds", "CPU s a GiB", "exact")


def put(on: Ground, size: int) -> None:
    """Put the object into the other bucket, which anybody may read."""
    on.origin.put(OBJECT, size)
    with closing(on.made.seaweedfs.client()) as client:
        client.create_bucket(Bucket=BUCKET)
        part_bytes = 16 * MIB
        parts: list[dict[str, Any]] = []
        upload: dict[str, Any] = {"Bucket": BUCKET, "Key": OBJECT}
        upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
        with on.origin.file(OBJECT).open("rb") as file:
            while body := file.read(part_bytes):
                number = len(parts) + 1
                etag = client.upload_part(**upload, PartNumber=number, Body=body)["ETag"]
                parts.append({"PartNumber": number, "ETag": etag})
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


def copy(on: Ground, made: Bench, relay: Relay, size: int) -> tuple[tuple[str, ...], bool]:
    """One copy: its line of the table, and whether it is as it should be."""
    worker = made.fleet.start("work")
    url = f"{relay.url}/{BUCKET}/{OBJECT}"
    before, before_s = {way: relay.count(way) for way in Way}, cpu_s(worker)
    seconds = made.copy(url)
    cpu = cpu_s(worker) - before_s
    passed = {way: relay.count(way) - before[way] for way in Way}
    share, exact = sum(passed.values()) / size, made.sha256(url) == on.origin.sha256(OBJECT)
    line = (
        made.fleet.shell,
        f"{passed[Way.DOWN]:,} bytes",
        f"{passed[Way.UP]:,} bytes",
        f"{100 * share:.2f} %",
        f"{seconds:.1f}",
        f"{cpu * GIB / size:.2f}",
        "yes" if exact else "NO",
    )
    return line, exact and share <= MOST_THROUGH


def main() -> int:
    """Copy by each shell, print the table; `--write` puts it into the page too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--shell", action="append", choices=SHELLS)
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args()
    size, lines, right = options.mib * MIB, [], True
    with ground() as on:
        put(on, size)
        for shell in options.shell or SHELLS:
            with Relay(on.made.seaweedfs.endpoint_url) as relay:
                where = {"source_url": relay.url, "store_url": relay.url}
                with bench(on, shell=shell, **where) as made:
                    line, good = copy(on, made, relay, size)
            lines.append(line)
            right = right and good
            print(" | ".join(line), flush=True)
    page.show([page.table(HEAD, lines)], options.write)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
