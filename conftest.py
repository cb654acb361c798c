"""How pytest's workers share the tests: a folder whose tests share something costly goes to one worker, and tests that
measure time run at the end, one after the other, while nothing else runs."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController

TIMED = "timed"
FOLDERS = {"tests/chaos": TIMED, "tests/distributions": "distributions"}


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        folder = "/".join(item.path.relative_to(config.rootpath).parts[:2])
        group = TIMED if item.get_closest_marker(TIMED) else FOLDERS.get(folder)
        if group:
            item.add_marker(pytest.mark.xdist_group(group))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> TimedLast | None:
    return TimedLast(config, log) if config.getoption("dist") == "loadgroup" else None


class TimedLast(LoadGroupScheduling):
    """One worker of several is kept free until all others have ended; then it runs the group of the timed tests."""

    _kept: WorkerController | None = None

    def schedule(self) -> None:
        if self.collection is None and len(self.nodes) > 1:
            groups = {self._split_scope(test) for test in self.registered_collections[self.nodes[0]]}
            if TIMED in groups and len(groups) > 1:
                # xdist ends the last workers when there are fewer groups than workers
                self._kept = self.nodes[min(len(groups), len(self.nodes)) - 1]
        super().schedule()

    def _assign_work_unit(self, node: WorkerController) -> None:
        if TIMED in self.workqueue:
            self.workqueue.move_to_end(TIMED)
        if self._kept is None:
            super()._assign_work_unit(node)
        elif node is self._kept:
            return
        elif next(iter(self.workqueue)) == TIMED:
            node.shutdown()
        else:
            super()._assign_work_unit(node)

    def remove_node(self, node: WorkerController) -> str | None:
        kept = self._kept
        if node is kept:
            self._kept = None
        crashed = super().remove_node(node)
        if kept is not None and self.nodes == [kept] and not kept.shutting_down:
            self._kept = None
            while self.workqueue:
                self._assign_work_unit(kept)
            kept.shutdown()
        return crashed
