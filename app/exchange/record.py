"""What commands and events have in common: values that are compared, shown and never changed.

Plain classes with slots, because these are made for every order: cheaper than named tuples, and by far so
when compiled.
"""

from typing import Any, ClassVar


class Record:
    """Equal to another of its class with equal fields; `__match_args__` names the fields in order."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def values(self) -> tuple[Any, ...]:
        """The fields' values in order."""
        return tuple([getattr(self, name) for name in self.__match_args__])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and type(self) is type(other) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.values()))

    def __repr__(self) -> str:
        fields = [f"{name}={value!r}" for name, value in zip(self.__match_args__, self.values(), strict=True)]
        return f"{type(self).__name__}({', '.join(fields)})"
