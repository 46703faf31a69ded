"""The tests: core and wire by themselves, each shell, and the whole on real servers."""
