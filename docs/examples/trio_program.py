"""A trio program with a mirror inside: `python trio_program.py 127.0.0.1:8000`, beside it `cloud-mirror work`.

`asgi_app(config.load())` alone is what `hypercorn --worker-class trio` takes.
"""

import signal
import sys

import hypercorn.trio
import trio
from hypercorn.config import Config

from cloud_mirror_command import config
from cloud_mirror_trio import asgi_app


async def stop_signal() -> None:
    """Come back when somebody asks this program to stop."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return


async def work() -> None:
    """What the program does besides."""
    await trio.sleep_forever()


async def main(bind: str) -> None:
    """Serve until somebody asks to stop; then the mirror answers whoever waits, and ends."""
    server = Config()
    server.bind = [bind]
    mirror = asgi_app(config.load())

    async def drained() -> None:
        await stop_signal()
        await mirror.mirror.drain()  # hypercorn would cut off whoever waits for more than three seconds

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await hypercorn.trio.serve(mirror, server, shutdown_trigger=drained)  # type: ignore[arg-type]  # its own types
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
