"""Numbers by which the order books know owners: dense from 1, given once, never changed."""

from collections.abc import Mapping


class Accounts:
    """All numbers that are given; 0 is no account."""

    def __init__(self, numbers: Mapping[str, int]) -> None:
        self._numbers = dict(numbers)
        self._owners = {number: owner for owner, number in numbers.items()}
        self.largest = max(self._owners, default=0)

    def find(self, owner: str) -> int | None:
        """Number of an owner; None when there is none."""
        return self._numbers.get(owner)

    def owner(self, number: int) -> str:
        """Owner of a number, empty for 0.

        Raises:
            KeyError: it is not given.
        """
        return self._owners[number] if number else ""

    def add(self, numbers: Mapping[str, int]) -> None:
        """Take numbers over that the database has now."""
        for owner, number in numbers.items():
            self._numbers[owner] = number
            self._owners[number] = owner
            self.largest = max(self.largest, number)
