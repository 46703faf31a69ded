"""A mirror's process that can be looked into: a shell's own service, and a port where it tells what it holds.

It is started as a program. Each connection to `--looks` gets a JSON object of names and numbers: tasks by what they
run, threads by their names, and objects of the mirror's own classes that are alive. Threads of a pool that have nothing
to do are counted by themselves: a pool keeps them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import socketserver
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import FrameType
from typing import Any, Final

from cloud_mirror_command.common import policy_of
from cloud_mirror_command.limits import raise_open_files
from cloud_mirror_command.shells import ShellName, load_shell

IDLE: Final = {("thread.py", "_worker"), ("_thread_cache.py", "_work")}
"""Where a thread of concurrent.futures, and one of trio's, waits for work: file and function."""

OWN_THREAD: Final = "looks"


def asyncio_tasks() -> Callable[[], Counter[str]]:
    """What counts the running loop's tasks, from any thread."""
    loop = asyncio.get_running_loop()

    def count() -> Counter[str]:
        answer: Future[Counter[str]] = Future()

        def look() -> None:
            names = (getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())
            answer.set_result(Counter(f"task {name}" for name in names))

        loop.call_soon_threadsafe(look)
        return answer.result()

    return count


def trio_tasks() -> Callable[[], Counter[str]]:
    """What counts all tasks of the run, from the root down, from any thread."""
    import trio

    root, token = trio.lowlevel.current_root_task(), trio.lowlevel.current_trio_token()
    assert root is not None

    def below(task: trio.lowlevel.Task) -> Iterator[str]:
        yield f"task {task.name}"
        for nursery in task.child_nurseries:
            for child in nursery.child_tasks:
                yield from below(child)

    return lambda: trio.from_thread.run_sync(lambda: Counter(below(root)), trio_token=token)


def no_tasks() -> Callable[[], Counter[str]]:
    """In threads there are none."""
    return Counter


TASKS: Final = {ShellName.ASYNCIO: asyncio_tasks, ShellName.TRIO: trio_tasks, ShellName.SYNC: no_tasks}


def is_idle(frame: FrameType | None) -> bool:
    """Whether a thread of a pool waits for work."""
    return frame is not None and (Path(frame.f_code.co_filename).name, frame.f_code.co_name) in IDLE


def threads() -> Counter[str]:
    """The threads by name without their numbers, but for the one that looks."""
    frames = sys._current_frames()
    found: Counter[str] = Counter()
    for thread in threading.enumerate():
        if thread.name != OWN_THREAD:
            name = re.sub(r"[-_ ]*\d+", "", thread.name)
            found[f"{'idle thread' if is_idle(frames.get(thread.ident or 0)) else 'thread'} {name}"] += 1
    return found


def objects() -> Counter[str]:
    """The objects that are alive, of classes of the mirror's own."""
    gc.collect()
    kinds = (type(each) for each in gc.get_objects())
    return Counter(f"object {kind.__qualname__}" for kind in kinds if str(kind.__module__).startswith("cloud_mirror"))


class Looks(socketserver.TCPServer):
    """Tells everybody who connects."""

    allow_reuse_address = True

    def __init__(self, port: int, tasks: Callable[[], Counter[str]]) -> None:
        super().__init__(("127.0.0.1", port), socketserver.BaseRequestHandler)
        self._tasks = tasks
        threading.Thread(target=self.serve_forever, name=OWN_THREAD, daemon=True).start()

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # socketserver's signature
        """One look."""
        request.sendall(json.dumps(self._tasks() + threads() + objects()).encode())


def main() -> int:
    """Serve, or work, as `cloud-mirror` does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("serve", "work"))
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--shell", type=ShellName, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--looks", type=int, required=True)
    options = parser.parse_args()
    serving = options.role == "serve"
    raise_open_files()
    policy = policy_of(options.config, port=options.port, section="server" if serving else "worker")

    def ready(_: str) -> None:
        Looks(options.looks, TASKS[options.shell]())

    return load_shell(options.shell).run(policy, front_end=serving, back_end=not serving, ready=ready)


if __name__ == "__main__":
    sys.exit(main())
