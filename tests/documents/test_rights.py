"""Every route of documents × every principal: what a token of a scope permits, and that nothing else permits anything."""

import tempfile

import aiohttp
import pytest

from cfgsync_runtime.compose.document_server import serving_documents
from cfgsync_runtime.compose.fleet_server import serving_snapshot

SCOPE, OTHER = "shop/live", "shop/test"
BASE = "/v1/config/apps/shop/envs/live"
ADMIN = "/v1/config/admin/apps/shop/envs/live"
HERE = "?app=shop&environment=live"
READS = [
    ("GET", f"/api/v1/config{HERE}", None),
    ("GET", f"/api/v1/config/a{HERE}", None),
    ("GET", f"{BASE}/snapshot", None),
    ("GET", f"{BASE}/namespaces/default/documents/a", None),
    ("GET", f"{ADMIN}/documents", None),
]
WRITES = [
    ("POST", f"/api/v1/config/b{HERE}", {}),
    ("PATCH", f"/api/v1/config/b{HERE}", {}),
    ("DELETE", f"/api/v1/config/b{HERE}", None),
    ("POST", f"{ADMIN}/commit", {"writes": []}),
    ("DELETE", f"{ADMIN}/namespaces/default/documents/b", None),
]
MAY = {
    "anyone": "",
    "a node": "",
    "a join token": "",
    "a reader": "r",
    "a reader of the scope": "r",
    "a reader of another scope": "",
    "a writer of the scope": "w",
    "a writer of another scope": "",
    "an operator": "rw",
    "a revoked writer": "",
    "the admin socket": "rw",
}


class Nobody:
    def materialize_snapshot(self, registrations):
        raise AssertionError("there is no node")


async def token(unix, **wanted):
    async with unix.post("/admin/token/create", json=wanted) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["token"]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("requires_tokens", [True, False])
async def test_a_document_is_read_and_written_with_a_token_of_its_scope_or_over_the_admin_socket(
    alone, requires_tokens
):
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/admin.sock"
        serving = (
            serving_documents(admin_socket=path, requires_tokens=requires_tokens)
            if alone
            else serving_snapshot(
                Nobody(), admin_socket=path, documents=True, requires_tokens=requires_tokens
            )
        )
        async with (
            serving as server,
            aiohttp.ClientSession(server.url) as tcp,
            aiohttp.ClientSession(server.url, connector=aiohttp.UnixConnector(path)) as unix,
        ):
            tokens = {
                "a node": "secret-of-a-node-1234567890",
                "a join token": await token(unix, **{"for": "*"}),
                "a reader": await token(unix, role="reader", name="all"),
                "a reader of the scope": await token(unix, role="reader", name="r1", scopes=[SCOPE]),
                "a reader of another scope": await token(unix, role="reader", name="r2", scopes=[OTHER]),
                "a writer of the scope": await token(unix, role="writer", name="w1", scopes=[SCOPE]),
                "a writer of another scope": await token(unix, role="writer", name="w2", scopes=[OTHER]),
                "an operator": await token(unix, role="operator", name="bea"),
                "a revoked writer": await token(unix, role="writer", name="gone", scopes=[SCOPE]),
            }
            assert (await unix.post("/admin/token/revoke", json={"which": "gone"})).status == 200
            assert (await unix.post(f"/api/v1/config/a{HERE}", json={"x": 1})).status == 200
            surprises = []
            for principal, may in MAY.items():
                over = unix if principal == "the admin socket" else tcp
                headers = {"Authorization": f"Bearer {tokens[principal]}"} if principal in tokens else {}
                for kind, calls in (("r", READS), ("w", WRITES)):
                    for method, target, body in calls:
                        async with over.request(method, target, json=body, headers=headers) as answer:
                            permitted = answer.status not in (401, 403)
                            if permitted != (kind in may):
                                surprises.append((principal, method, target, answer.status))
            print(f"{len(MAY) * (len(READS) + len(WRITES))} pairs, {len(surprises)} surprises")
            assert surprises == []
