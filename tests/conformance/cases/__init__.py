"""The cases, by what they look at. Importing this enters them all."""

from tests.conformance.cases import (
    bad_input,
    connections,
    copies,
    ends,
    faults,
    garbage,
    near,
    objects,
    operating,
    parts,
    purges,
    redirects,
)

__all__ = [
    "bad_input",
    "connections",
    "copies",
    "ends",
    "faults",
    "garbage",
    "near",
    "objects",
    "operating",
    "parts",
    "purges",
    "redirects",
]
