"""A bus of events for tests."""

from __future__ import annotations

import json


class Bus:
    """Records what is announced; after `dies_after` events it raises."""

    def __init__(self, dies_after=float("inf")):
        self.announced = []
        self.dies_after = dies_after

    async def announce(self, subject, body, identity):
        if len(self.announced) >= self.dies_after:
            raise ConnectionError("the bus is dead")
        self.announced.append((subject, json.loads(body)))
        return "published"
