"""What anybody would write with boto3 and urllib3: copies the URLs that it is told on standard input, in JSON.

Says on standard output, in JSON too, how long it took once all was imported, and its CPU time from then on.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
import urllib3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config


def cpu_s() -> float:
    """The CPU time that this process has had."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Copy all."""
    told = json.load(sys.stdin)
    options = Config(
        s3={"addressing_style": "path"} | told["s3"],
        max_pool_connections=max(10, told["at_once"]),
    )
    client = boto3.client("s3", config=options, **told["client"])
    transfer = TransferConfig(
        multipart_threshold=told["part_bytes"],
        multipart_chunksize=told["part_bytes"],
        max_concurrency=told["uploads"],
        use_threads=told["at_once"] == 1,  # else the pool below has threads enough
    )
    pool = urllib3.PoolManager(maxsize=told["at_once"])

    def copy(pair: list[str]) -> None:
        url, key = pair
        reply = pool.request("GET", url, preload_content=False)
        if reply.status != 200:
            raise RuntimeError(f"{url}: {reply.status}")
        client.upload_fileobj(reply, told["bucket"], key, Config=transfer)
        reply.release_conn()

    begun, before_s = time.monotonic(), cpu_s()
    with ThreadPoolExecutor(told["at_once"]) as threads:
        list(threads.map(copy, told["pairs"]))
    print(json.dumps({"seconds": time.monotonic() - begun, "cpu_s": cpu_s() - before_s}))


if __name__ == "__main__":
    main()
