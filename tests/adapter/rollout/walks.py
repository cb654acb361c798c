"""Random walks through the model, each with a seed that finds it again."""

from __future__ import annotations

import random

from cfgsync_adapter.rollout.policy import Rollout

from .model import OPERATOR, Broken, Content, Move, Rules, World, left_alone


def walk(seed: int, rules: Rules | None = None, steps: int = 120) -> None:
    """A fleet, a policy and a run, all from the seed; then it is left alone, and then it gets a fix. Raises `Broken`."""
    chance = random.Random(seed)
    policy = Rollout(
        max_parallel=chance.choice((1, 1, 2, 2, 3)),
        max_failures=chance.choice((0, 0, 1, 2)),
        canary=chance.choice((0, 0, 0, 2)),
    )
    names = "abcde"[: chance.randint(2, 5)]
    groups = {name: chance.choice(("default", "default", "etcd")) for name in names}
    world = World(groups, chance.randint(1, 3), policy, rules)
    if seed % 4 == 3:
        world.nodes[names[0]].goes_back = False
    done: list[Move] = []
    try:
        for _ in range(steps):
            step = next_step(world, chance)
            done.append(step)
            world.take(step)
        done.append(("left alone",))
        left_alone(world)
        _fixed(world, done, chance)
    except Broken as broken:
        shown = "\n".join(map(str, done[-40:]))
        raise Broken(f"seed {seed}, {len(names)} nodes, {policy}, after …\n{shown}\n{broken}") from None


def walk_without_turns(seed: int, rules: Rules | None = None, steps: int = 120) -> None:
    """With `--rollout all`, and without operators: RO-6 is all that is promised. Raises `Broken`."""
    chance = random.Random(seed)
    world = World(dict.fromkeys("abc", "default"), chance.randint(2, 3), Rollout(mode="all"), rules)
    for _ in range(steps):
        if chance.random() < 0.05:
            world.take(("publish", new_content(world, chance)))
        else:
            found = world.ordinary() if chance.random() < 0.9 else world.faults()
            world.take(_one(found or world.faults(), chance))


def next_step(world: World, chance: random.Random) -> Move:
    luck = chance.random()
    if luck < 0.85 and (ordinary := world.ordinary()):
        return _one(ordinary, chance)
    if luck < 0.94:
        return _one(world.faults(), chance)
    number = chance.randrange(len(world.servers))
    if luck < 0.97:
        return "publish", new_content(world, chance)
    if luck < 0.98 and len(world.contents) > 1:
        good = [n for n, one in enumerate(world.contents, 1) if _is_good(world, one)]
        return "revert", chance.choice(good[-2:]), number
    return "command", chance.choice(OPERATOR), number


def _one(steps: list[Move], chance: random.Random) -> Move:
    """A kind of step, then one of that kind."""
    kinds: dict[str, list[Move]] = {}
    for step in steps:
        kinds.setdefault(step[0], []).append(step)
    return chance.choice(kinds[chance.choice(sorted(kinds))])


def new_content(world: World, chance: random.Random) -> Content:
    """Good for all, bad for all, bad for one, or what was published before."""
    luck = chance.random()
    if luck < 0.1:
        return world.contents[-1]._replace(reverts=0, at_once=False)
    digest = f"d{len(world.contents) + 1}"
    fault = "" if luck < 0.5 else "*" if luck < 0.7 else chance.choice(sorted(world.nodes))
    return Content(digest, fault, at_once=chance.random() < 0.05)


def _fixed(world: World, done: list[Move], chance: random.Random) -> None:
    """RO-8: everybody comes back, and a good generation, or a repair and `retry`, heal what no operator has stopped."""
    for name, node in world.nodes.items():
        if not node.is_up:
            world.do_start(name)
    left_alone(world)
    if world.words.record.paused or world.words.record.reverting:
        return
    fix: list[Move] = [("publish", Content(f"d{len(world.contents) + 1}"))]
    if chance.random() < 0.3:
        fix = [("repair",), ("command", "retry", 0)]
    done += fix
    for step in fix:
        world.take(step)
    left_alone(world)
    record = world.words.record
    if record.phase == "halted":
        raise Broken(f"RO-8: halted, though everything that failed is fixed: {world.words}")
    if record.phase == "rolling" and not record.whole:
        raise Broken(f"RO-5: everybody is well, and it is not whole: {world.words}")


def _is_good(world: World, content: Content) -> bool:
    return not any(one.digest == content.digest and one.fault for one in world.contents)
