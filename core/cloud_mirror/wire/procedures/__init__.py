"""Procedures: each action of a machine as wire calls, ending in the event that answers it.

Straight lines without races; nothing is raised. `redirect`, `copy`, `lease` and `purge` each map one machine's actions
to its procedures (`perform`); `cache`, `store`, `origin` and `jobs` hold what these are made of.
"""

__all__: list[str] = []
