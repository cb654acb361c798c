"""The dashboard, the alert rules and their page name what `/metrics` has, and Prometheus' own tool finds them right."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import ssl
import subprocess
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cfgsync_adapter import ArtifactFile, MaterializedArtifacts, RegistrationSnapshot
from cfgsync_adapter.runs.run_log import OUTCOMES
from cfgsync_runtime import ServerCertificate, serving_snapshot
from tests.certificates import Authority

from .blocks import blocks

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "docs" / "observability"
RULES = yaml.safe_load((HERE / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((HERE / "grafana.json").read_text())
NAME = re.compile(r"\b(?:cfgsync|process|python)_[a-z_]+\b")


class Ready:
    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
        return MaterializedArtifacts.from_nodes(
            {r.identifier: [ArtifactFile("/id", r.identifier)] for r in registrations}
        )


async def scraped(place: Path) -> bytes:
    """The page of a server of registrations that has one, and a certificate."""
    authority = Authority(place)
    cert, key = authority.pair()
    trusting = ssl.create_default_context(cafile=str(authority.file))
    trusting.verify_flags &= ~ssl.VERIFY_X509_STRICT
    async with serving_snapshot(Ready(), tls=ServerCertificate(str(cert), str(key))) as server:
        words = b'{"identifier":"node-1","ip":"10.0.0.1"}'
        kind = {"Content-Type": "application/json"}

        def ask(path: str, body: bytes | None = None) -> bytes:
            request = urllib.request.Request(f"{server.url}{path}", body, kind)
            with urllib.request.urlopen(request, timeout=30, context=trusting) as answer:
                return bytes(answer.read())

        await asyncio.to_thread(ask, "/register", words)
        await asyncio.to_thread(ask, "/node", words)
        return await asyncio.to_thread(ask, "/metrics")


@pytest.fixture
async def served(tmp_path: Path) -> set[str]:
    """The names of all samples that a server has, or has once something happened."""
    page = (await scraped(tmp_path)).decode()
    names: set[str] = set()
    for name, kind in re.findall(r"(?m)^# TYPE (\S+) (\S+)$", page):
        names.add(name)
        if kind in ("histogram", "summary"):
            names |= {f"{name}_count", f"{name}_sum"}
        if kind == "histogram":
            names.add(f"{name}_bucket")
    return names


def expressions() -> Iterator[str]:
    """Every query of the dashboard, of its variables and annotations, and of the rules."""
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]
    yield from (annotation["expr"] for annotation in DASHBOARD["annotations"]["list"])
    yield from (rule["expr"] for rule in RULES)


def test_there_are_four_rules_and_each_says_what_to_do() -> None:
    assert [rule["alert"] for rule in RULES] == [
        "CfgsyncNotReady",
        "CfgsyncFleetLag",
        "CfgsyncMaterializerFails",
        "CfgsyncRolloutHalted",
    ]
    for rule in RULES:
        assert rule["for"]
        assert re.search("cfgsync (rollout )?status", rule["annotations"]["description"])


def test_every_name_in_the_dashboard_and_the_rules_is_in_metrics(served: set[str]) -> None:
    used = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(used) > 20
    assert used - served == set()


def test_the_page_describes_every_family_and_no_other(served: set[str]) -> None:
    described = set(re.findall(r"(?m)^\| `(cfgsync_[a-z_]+)` \|", (HERE / "README.md").read_text()))
    ours = {name for name in served if name.startswith("cfgsync_")}
    assert described - ours == set()
    assert {n for n in ours if re.sub("_(count|sum|bucket)$", "", n) not in described} == set()


def test_the_outcomes_that_alert_are_outcomes_of_runs() -> None:
    (words,) = re.findall(r'outcome=~"([^"]+)"', RULES[2]["expr"])
    assert set(words.split("|")) < set(OUTCOMES)


def test_the_panels_of_the_dashboard_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.fixture
def promtool() -> str:
    """Prometheus' own tool. Without it the test is skipped, and says so loudly; where engines are required, it fails."""
    fetched = ROOT / ".venv" / "engines" / "promtool"
    found = shutil.which("promtool") or (str(fetched) if os.access(fetched, os.X_OK) else None)
    if found is not None:
        return found
    line = "NOT TESTED: the alert rules were not checked, promtool not found (scripts/engines fetches it)"
    if os.environ.get("CFGSYNC_REQUIRE_ENGINES") == "1":
        pytest.fail(line)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn(line, stacklevel=1)
    pytest.skip(line)


@pytest.mark.parametrize(
    "arguments", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_promtool_finds_the_rules_right(promtool: str, arguments: tuple[str, ...]) -> None:
    ran = subprocess.run([promtool, *arguments], cwd=HERE, capture_output=True, text=True, check=False)
    print(ran.stdout, ran.stderr)
    assert ran.returncode == 0
    assert "SUCCESS" in ran.stdout


def test_promtool_takes_the_settings_on_the_page_with_tls_and_without(promtool: str, tmp_path: Path) -> None:
    shown = [block for block in blocks(HERE / "README.md") if block.title.startswith("prometheus")]
    assert len(shown) == 2
    for block in shown:
        (tmp_path / block.title).write_text(block.text)
        command = [promtool, "check", "config", "--syntax-only", block.title]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr


async def test_promtool_reads_the_page_and_finds_its_names_well_chosen(promtool: str, tmp_path: Path) -> None:
    page = await scraped(tmp_path)
    ran = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
