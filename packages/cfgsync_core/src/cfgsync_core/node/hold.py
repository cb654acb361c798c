"""How long a server may hold the next request: a proxy between may end a silent request sooner than either wants."""

from __future__ import annotations

from typing import Final

SHORTEST: Final = 1.0  # s
NOTICED: Final = 0.9  # s; an answer that came sooner says nothing about how long a request may be held


class Hold:
    """Begins with one second, so that a node that must wait soon says why. A hold that somebody between ends halves the
    next one; each that lasts to its end makes the next one longer by a second, up to `longest`."""

    def __init__(self, longest: float, *, is_first: bool = True) -> None:
        self.longest = longest
        self._bound = longest
        self._is_first = is_first

    @property
    def seconds(self) -> float:
        """For the next request."""
        return min(SHORTEST, self.longest) if self._is_first else min(self._bound, self.longest)

    def restart(self) -> None:
        """A lost server: the next hold is a first one."""
        self._is_first = True

    def lasted(self) -> None:
        """The server has answered a request that it held."""
        if not self._is_first:
            self._bound = min(self._bound + 1, self.longest)
        self._is_first = False

    def was_cut(self, held: float) -> None:
        """A request that was to be held for `held` seconds was ended before that, and not by the server."""
        self._is_first = False
        self._bound = max(SHORTEST, held / 2)
