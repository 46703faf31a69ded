"""A virtual world for the core: the real machines and procedures around models of cache, queue, store and origin."""

__all__: list[str] = []
