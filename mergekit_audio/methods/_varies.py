"""Class variables of a method whose value depends on its fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class _Varies(Generic[T]):
    def __init__(self, default: T, value: Callable[[Any], T]) -> None:
        self.default, self.value = default, value

    def __get__(self, instance: Any, owner: type[Any]) -> T:
        return self.default if instance is None else self.value(instance)


def varies(default: T, value: Callable[[Any], T]) -> T:
    """Return a class variable that reads ``value(method)`` on a method, ``default`` on its class.

    Parameters
    ----------
    default
        The value with all fields at their defaults.
    value
        The value from a method with its fields.
    """
    return cast("T", _Varies(default, value))
