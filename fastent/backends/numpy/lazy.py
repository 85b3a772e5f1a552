"""Attributes that are computed when they are asked for."""


class lazy:  # noqa: N801
    """`functools.cached_property` without its lock, which a child of a fork may inherit locked."""

    def __init__(self, compute):
        self.compute = compute

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner):
        value = instance.__dict__[self.name] = self.compute(instance)
        return value
