"""A limit of the wire is one line of `core/wire/limits.py`; a second one with its name would be changed alone."""

import ast

HOME = "cfgsync_core.wire.limits"


def assigned_names(module) -> set[str]:
    assigned = set()
    for node in module.tree().body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        assigned |= {target.id for target in targets if isinstance(target, ast.Name)}
    return assigned


def test_no_module_defines_a_limit_of_the_wire_a_second_time(modules):
    limits = assigned_names(next(module for module in modules if module.name == HOME))
    product = [module for module in modules if module.name != HOME]
    assert "MAX_PAYLOAD_BYTES" in limits
    assert {m.name: assigned_names(m) & limits for m in product if assigned_names(m) & limits} == {}
