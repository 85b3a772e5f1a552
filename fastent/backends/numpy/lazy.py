"""Attributes that are computed when they are asked for."""


class lazy:  # noqa: N801
    """`functools.cached_property` without its lock, which a child of a fork may inherit locked."""

    def __init__(self, compute):
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        value = instance.__dict__[self.name] = self.compute(instance)
        return value
