"""What a program of cfgsync's finds in its environment: no secret, and a materializer nothing of the server's at all."""

from cfgsync_runtime.program.environment import for_materializers, for_programs

OURS = {
    "CFGSYNC_STORE": "postgresql://u:canary@db/x",
    "CFGSYNC_SERVE_STORE": "postgresql://u:canary@db/x",
    "CFGSYNC_HINTS": "nats://canary@bus",
    "CFGSYNC_TOKEN": "canary",
    "CFGSYNC_SERVE_SIGNING_KEY": "canary",
    "CFGSYNC_SECRET": "canary",
    "CFGSYNC_DB_PASSWORD": "canary",
}
PLACES = {
    "CFGSYNC_SECRET_FILE": "/run/secrets/node",
    "CFGSYNC_TOKEN_FILE": "/run/secrets/token",
    "CFGSYNC_VERIFY_KEY": "/etc/cfgsync/signing.key.pub",
    "CFGSYNC_SERVER": "http://127.0.0.1:4400",
}
THEIRS = {"PATH": "/bin", "DATABASE_URL": "theirs", "MY_CFGSYNC_KEY": "theirs", "PGP_KEY": "theirs"}
OF_THE_STORE = {
    "PGPASSWORD": "canary",
    "PGPASSFILE": "/run/secrets/pgpass",
    "PGSERVICE": "fleet",
    "PGSSLKEY": "/k",
}


def test_a_program_keeps_places_and_gets_no_secret() -> None:
    assert for_programs({**OURS, **PLACES, **THEIRS}) == PLACES | THEIRS


def test_a_materializer_gets_nothing_of_the_servers() -> None:
    assert for_materializers({**OURS, **PLACES, **THEIRS, "CFG_SERVER_ADDR": "x"}) == THEIRS


def test_a_materializer_gets_no_way_into_the_servers_database() -> None:
    assert for_materializers({**OF_THE_STORE, **THEIRS}) == THEIRS


def test_a_program_of_a_node_keeps_its_own_database() -> None:
    assert for_programs({**OF_THE_STORE, **THEIRS}) == OF_THE_STORE | THEIRS
