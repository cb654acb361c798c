"""Check that the nodes' files make a mesh: compute the keys as WireGuard would, only from each node's files."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64decode
from itertools import combinations
from pathlib import Path

PUBLIC_KEY = bytes.fromhex("302a300506032b656e032100")  # X25519, as DER, before its 32 bytes (RFC 8410)


def peers(node: Path) -> dict[str, dict[str, str]]:
    """The peers in a node's file, by name, each as its settings."""
    found: dict[str, dict[str, str]] = {}
    for section in (node / "out/current/wg0.conf").read_text().split("[Peer]")[1:]:
        name, *lines = section.strip().splitlines()
        found[name.strip("# ")] = dict(line.split(" = ", 1) for line in lines if line)
    return found


def agreed(node: Path, public_key: str) -> bytes:
    """X25519 of the node's private key and a peer's public one."""
    peer = node / "peer.der"
    peer.write_bytes(PUBLIC_KEY + b64decode(public_key))
    command = [
        "openssl",
        "pkeyutl",
        "-derive",
        "-inkey",
        node / "private.pem",
        "-peerkey",
        peer,
        "-peerform",
        "DER",
    ]
    try:
        return subprocess.run(command, check=True, capture_output=True).stdout
    finally:
        peer.unlink()


def main(directory: Path, store: Path) -> None:
    nodes = {node.name: node for node in sorted(directory.iterdir())}
    files = {name: peers(node) for name, node in nodes.items()}
    shared = []
    for one, other in combinations(nodes, 2):
        mine, theirs = files[one][other], files[other][one]
        assert agreed(nodes[one], mine["PublicKey"]) == agreed(nodes[other], theirs["PublicKey"])
        assert mine["PresharedKey"] == theirs["PresharedKey"]
        shared.append(mine["PresharedKey"])
    print(f"{len(shared)} pairs of {len(nodes)} nodes agree on a key")

    for key in shared:
        knows = [name for name in nodes if key in (nodes[name] / "out/current/wg0.conf").read_text()]
        assert len(knows) == 2, knows
    assert len(set(shared)) == len(shared)
    print("each preshared key is known to two nodes")

    kept = b"".join(path.read_bytes() for path in store.parent.glob(store.name + "*"))
    for name, node in nodes.items():
        private = (node / "wg0.key").read_bytes().strip()
        assert private not in kept and b64decode(private) not in kept, name  # noqa: PT018 - one thing
        public = next(told[name]["PublicKey"] for told in files.values() if name in told)
        assert (
            public.encode() in kept
        )  # all registered data is in there, so a private key would have been found
    print("the server has every public key and no private one")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
