"""The wire: store, queue and cache operations as HTTP exchanges and Redis commands, and back. No I/O happens here.

`calls` is the whole surface between a procedure and a shell; `procedures` turns each action into calls.
"""

__all__: list[str] = []
