"""The four snippets of the README boot two nodes, exactly as written."""

import textwrap
from pathlib import Path

import pytest

from tests.docs.blocks import free_ports, run_page

HERE = Path(__file__).parent

REGISTRATION = """\
registration = NodeRegistration("node-1", "127.0.0.1").with_metadata(MyNodeMetadata(network_port=3000, api_port=18080))
"""
MATERIALIZER = """\
class MyMaterializer:
    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        if len(registrations) < 2:
            return NotReady(f"waiting for 2 nodes, have {len(registrations)}")
        return MaterializedArtifacts.from_nodes(
            {r.identifier: ArtifactSet([ArtifactFile("/config.yaml", f"id: {r.identifier}\\n")]) for r in registrations}
        )
"""
SERVE = """\
await serve_snapshot_cfgsync(4400, MyMaterializer())
"""
FETCH = """\
outputs = ArtifactOutputMap().route("/config.yaml", "node-data/node-1/config.yaml")
await fetch_and_write_artifacts(registration, "http://127.0.0.1:4400", outputs)
"""


@pytest.mark.parametrize(
    "page", [HERE / "boot.py", HERE.parents[1] / "README.md"], ids=lambda page: page.name
)
@pytest.mark.parametrize(
    "snippet",
    [REGISTRATION, MATERIALIZER, SERVE, FETCH],
    ids=["registration", "materializer", "serve", "fetch"],
)
def test_a_snippet_stands_there_as_written(page, snippet):
    text = page.read_text(encoding="utf-8")
    indented = textwrap.indent(snippet, "    ")
    assert snippet in text or indented in text


def test_the_program_boots_two_nodes_and_their_files_are_on_disk(tmp_path):
    # The program says 4400, as the snippets do; here that port may be taken.
    program = (HERE / "boot.py").read_text(encoding="utf-8").replace("4400", str(free_ports()[0]))
    (tmp_path / "boot.py").write_text(program, encoding="utf-8")
    (printed,) = run_page(HERE / "README.md", tmp_path)
    assert "Traceback" not in printed
    for node in ("node-1", "node-2"):
        assert (tmp_path / f"node-data/{node}/config.yaml").read_text() == f"id: {node}\n"
