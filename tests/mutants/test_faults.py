"""The deliberate faults keep up with the code: `make mutants` would find the place of each, and its tests."""

from __future__ import annotations

import pytest

from tests.mutants.faults import FAULTS, ROOT, DoesNotApply, Edit, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_place_of_each_fault_is_found_exactly_once_and_its_tests_are_there(fault: Fault) -> None:
    for edit in fault.edits:
        compile(edit.applied(), edit.file, "exec")
    for test in fault.tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text() if name else (ROOT / file).is_file()


def test_an_edit_whose_place_is_gone_says_where_it_was_looked_for() -> None:
    edit = Edit("cfgsync_core/src/cfgsync_core/node/answers.py", "no such line", "")
    with pytest.raises(DoesNotApply, match=r"answers\.py: 0 times, expected once"):
        edit.applied()
