"""The operator's commands find the server of their machine by its admin socket, and say what to do where there is none."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.processes import Place, body

APPLICATION = """
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts

class Each:
    def materialize_snapshot(self, nodes):
        return MaterializedArtifacts.from_nodes({n.identifier: [ArtifactFile("/id", n.identifier)] for n in nodes})
"""


def test_a_command_finds_the_socket_of_the_server_whose_url_it_is_given(place: Place) -> None:
    place.write("application.py", APPLICATION)
    server = place.serve("application:Each", "--store", "memory:")
    assert server.ask("POST", "/register", body("node-1")).status == 202
    evict = ("node", "evict", "node-1", "--server", server.url)
    elsewhere = {"XDG_RUNTIME_DIR": str(place.directory), "HOME": str(place.directory)}
    elsewhere["XDG_STATE_HOME"] = str(place.directory)
    missed = place.run(*evict, environment=elsewhere)
    assert missed.returncode == 5
    what, do = missed.stderr.splitlines()
    assert what.startswith(f"{server.url} refuses: operator routes answer on the server's admin socket only")
    assert do.startswith(f"no admin socket at {place.directory}/cfgsync/{server.port}.sock")
    assert do.endswith("or give --admin-socket PATH")
    by_variable = place.run(*evict, environment={**elsewhere, "CFGSYNC_ADMIN_SOCKET": server.admin_socket})
    assert (by_variable.returncode, by_variable.stderr) == (0, "")
    away = place.run("node", "evict", "node-1", "--server", f"http://192.0.2.1:{server.port}")
    assert away.returncode == 5
    assert "another machine" in away.stderr.splitlines()[0]
    assert "ssh 192.0.2.1" in away.stderr.splitlines()[1]


def test_the_socket_is_gone_after_sigterm_and_replaced_after_a_kill(place: Place) -> None:
    place.write("application.py", APPLICATION)
    first = place.serve("application:Each", "--store", "memory:")
    path, port = first.admin_socket, first.port
    refused = place.run(
        "serve", "application:Each", "--store", "memory:", "--port", "0", "--admin-socket", path
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.splitlines()[-2:] == [
        f"another server has the admin socket {path}",
        "stop that server, give another --port, or give this one an --admin-socket of its own",
    ]
    first.kill()
    assert Path(path).is_socket()
    lost = place.run("generation", "list", "--server", first.url)
    assert (lost.returncode, lost.stderr.splitlines()[0].partition(":")[0]) == (7, "no answer from http")
    again = place.serve("application:Each", "--store", "memory:", port=port)
    assert again.admin_socket == path
    assert again.operate("GET", "/admin/generations").status == 200
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)  # whose file it is decides nothing
        assert place.run("generation", "list", "--server", again.url).returncode == 0
    assert again.stop(signal.SIGTERM) == 0
    assert not os.path.lexists(path)
