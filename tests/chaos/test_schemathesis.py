"""What `/openapi.json` says is what the server does, for requests that a machine makes up from it, right and wrong ones.

schemathesis in all its phases (examples, coverage, fuzzing, stateful) with all its checks: no 5xx, only documented
statuses, types, headers and shapes; what the document allows is taken, what it forbids is refused. It speaks TCP only,
so its requests are carried to the admin socket, which answers every route.
"""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.chaos.form import sized
from tests.processes import BIN, Place
from tests.seeds import drawn_seed

APPLICATION = """
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts

class EveryNodeItsName:
    def materialize_snapshot(self, registrations):
        return MaterializedArtifacts.from_nodes({r.identifier: [ArtifactFile("/id", r.identifier)] for r in registrations})
"""
# 425 is an answer to a right question, too
SETTINGS = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "425"]

# what a text with JSON in it and a schema may be, how long the name of a schema is, and that 1.0 is no integer here
[[operations]]
include-path-regex = "^/v1/config/.*/(defaults|commit|documents|documents/.key.(/rollback)?|schema)$"
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "409", "422"]

# which preconditions hold, and which documents and kinds there are
[[operations]]
include-path-regex = "^/(documents|api/v1/config/.name.|v1/config/.*)$"
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", "304", "404", "409", "412", "422"]

# a document by its name is one of the scope in the query or the headers, of which this check knows nothing
[[operations]]
include-path-regex = "^/api/v1/config/.name.$"
[operations.checks]
use_after_free.enabled = false

# which paths a file may have, which generations are held, and what a token of each role has, is more than a schema can say
[[operations]]
include-path-regex = "^/(admin/generations|admin/snapshot|admin/token/create|admin/rollout|node/replace)$"
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", "404", "409", "422"]
"""
LEFT_OUT = ("/watch", "/v1/config/watch", "/admin/renew")
"""Two do not end, and each of the other is a run of the materializer."""
WAIT = re.compile(rb"(?i)(\r\nprefer: *wait=)\d+")
"""A question that is held would be held for half a minute: each asks for no wait."""
LEAST_CASES = sized(100, 2_000)


class ToTheSocket(socketserver.BaseRequestHandler):
    """Carries one connection to the Unix socket `path`."""

    path = ""

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as there:
            there.connect(self.path)
            back = threading.Thread(target=_carry, args=(there, self.request))
            back.start()
            _carry(self.request, there, WAIT)
            back.join()


def _carry(source: socket.socket, to: socket.socket, shortened: re.Pattern[bytes] | None = None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            to.sendall(data if shortened is None else shortened.sub(rb"\g<1>0", data))
    with contextlib.suppress(OSError):
        to.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def carried_to(path: str) -> Iterator[str]:
    """The URL of a port whose connections are carried to a Unix socket."""
    handler = type("Handler", (ToTheSocket,), {"path": path})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.timeout(sized(300, 2_400))
def test_the_server_does_what_its_openapi_document_says(place: Place) -> None:
    place.write("application.py", APPLICATION)
    place.write("schemathesis.toml", SETTINGS)
    server = place.serve(
        "application:EveryNodeItsName", "--documents", "--store", f"sqlite:{place.directory / 's.db'}"
    )
    with carried_to(server.admin_socket) as url:
        ran = subprocess.run(
            [
                *(BIN / "schemathesis", "run", f"{url}/openapi.json", "--no-color", "--warnings", "off"),
                *("--max-examples", str(sized(5, 300))),
                *(word for path in LEFT_OUT for word in ("--exclude-path", path)),
                *("--seed", str(drawn_seed())),
            ],
            cwd=place.directory,
            env=place.environment({"NO_PROXY": "*", "no_proxy": "*"}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    print(ran.stdout, ran.stderr)  # the seed is in it
    assert ran.returncode == 0
    paths = server.ask("GET", "/openapi.json").words["paths"]
    assert (
        f"Tested: {sum(map(len, paths.values())) - len(LEFT_OUT)}" in ran.stdout
    )  # those left out have one method each
    cases = re.search(r"(\d+) generated", ran.stdout)
    assert cases is not None
    assert int(cases[1]) >= LEAST_CASES
    assert "Traceback" not in server.log
