"""What `serve` is to do: who wins over whom, and where a refused value came from."""

from pathlib import Path

import pytest

from cfgsync_adapter import Rollout
from cfgsync_runtime.access.insecure import is_loopback
from cfgsync_runtime.errors import InputError
from cfgsync_runtime.settings.serve_settings import (
    ServeSettings,
    variable_of_field,
)
from cfgsync_runtime.settings.server_file import BundleServer
from cfgsync_runtime.settings.settings_reader import read_serve_settings

BUNDLE = "nodes: [{identifier: a, files: [{path: /x, content: y}]}]\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """The current directory, with a bundle and a server file in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.yaml").write_text(BUNDLE)
    return tmp_path


def server_file(here: Path, more: str = "") -> str:
    (here / "s.yaml").write_text(f"port: 4401\nsource: {{kind: static, artifacts_path: b.yaml}}\n{more}")
    return "s.yaml"


def read(environment: dict[str, str] | None = None, **flags: object) -> ServeSettings:
    return read_serve_settings(
        {"materializer": "app:Mine", **flags}, {"HOME": "/home/me", **(environment or {})}
    )


def refusal(environment: dict[str, str] | None = None, **flags: object) -> tuple[str, str]:
    with pytest.raises(InputError) as refused:
        read(environment, **flags)
    assert "\n" not in str(refused.value) + refused.value.hint
    return str(refused.value), refused.value.hint


# ── what is read ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_defaults_are_those_of_the_contract():
    assert read().model_dump() == {
        "materializer": "app:Mine",
        "server": None,
        "store": "sqlite:/home/me/.local/state/cfgsync/serve-app.Mine.db",
        "hints": None,
        "events_stream": None,
        "project_kv": False,
        "host": ("127.0.0.1",),
        "port": 4400,
        "admin_socket": None,
        "json_logs": False,
        "debug": False,
        "late": "follow",
        "signing_key": None,
        "rollout": "rolling",
        "max_parallel": "10%",
        "canary": 0,
        "bake": 0.0,
        "deadline": 300.0,
        "max_failures": "0",
        "on_failure": "halt",
        "materializer_user": None,
        "revision": None,
        "require_tokens": False,
        "allow_anonymous": False,
        "insecure_no_tls": False,
        "legacy_init_with_node": False,
        "legacy_replace": False,
        "no_page": False,
        "page_contents": False,
        "documents": False,
        "open_documents": False,
        "allow_origin": (),
        "validator": None,
        "insecure_no_auth": False,
        "run_timeout": 60.0,
        "shrink_guard": 50.0,
        "ttl": None,
        "expose_errors": False,
        "title": None,
        "tls_cert": None,
        "tls_key": None,
        "trusted_proxy": (),
    }


def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(here: Path):
    file = server_file(here)
    variable = {"CFGSYNC_SERVE_PORT": "4402"}
    assert read().port == 4400
    assert read(materializer=None, config=file).port == 4401
    assert read(variable, materializer=None, config=file).port == 4402
    assert read(variable, materializer=None, config=file, port=4403).port == 4403


def test_false_and_zero_are_given_and_an_empty_variable_is_not():
    variables = {"CFGSYNC_SERVE_JSON_LOGS": "1", "CFGSYNC_SERVE_PORT": ""}
    assert read(variables).json_logs is True
    assert read(variables).port == 4400
    made = read(variables, json_logs=False, run_timeout=7)
    assert (made.json_logs, made.run_timeout) == (False, 7)


def test_every_flag_is_also_a_variable():
    variables = {
        "CFGSYNC_STORE": "memory:",
        "CFGSYNC_ADMIN_SOCKET": "/run/a.sock",
        "CFGSYNC_SERVE_HOST": "::1",
        "CFGSYNC_SERVE_LATE": "freeze",
        "CFGSYNC_SERVE_REVISION": "v2",
        "CFGSYNC_SERVE_ROLLOUT": "all",
        "CFGSYNC_SERVE_MAX_PARALLEL": "3",
        "CFGSYNC_SERVE_CANARY": "2",
        "CFGSYNC_SERVE_BAKE": "1m",
        "CFGSYNC_SERVE_DEADLINE": "90",
        "CFGSYNC_SERVE_MAX_FAILURES": "5%",
        "CFGSYNC_SERVE_ON_FAILURE": "revert",
        "CFGSYNC_SERVE_ALLOW_ANONYMOUS": "1",
        "CFGSYNC_SERVE_INSECURE_NO_TLS": "1",
        "CFGSYNC_SERVE_INSECURE_NO_AUTH": "1",
        "CFGSYNC_SERVE_REQUIRE_TOKENS": "0",
        "CFGSYNC_SERVE_LEGACY_INIT_WITH_NODE": "1",
        "CFGSYNC_SERVE_LEGACY_REPLACE": "1",
        "CFGSYNC_SERVE_NO_PAGE": "1",
        "CFGSYNC_SERVE_EXPOSE_ERRORS": "1",
        "CFGSYNC_SERVE_PAGE_CONTENTS": "1",
        "CFGSYNC_SERVE_DOCUMENTS": "1",
        "CFGSYNC_SERVE_OPEN_DOCUMENTS": "1",
        "CFGSYNC_SERVE_VALIDATOR": "app:Judge",
        "CFGSYNC_SERVE_ALLOW_ORIGIN": "https://example.com",
        "CFGSYNC_SERVE_RUN_TIMEOUT": "1.5",
        "CFGSYNC_SERVE_SHRINK_GUARD": "20",
        "CFGSYNC_SERVE_TTL": "90",
        "CFGSYNC_SERVE_TITLE": "blue fleet",
        "CFGSYNC_SERVE_TLS_CERT": "c.pem",
        "CFGSYNC_SERVE_TLS_KEY": "c.key",
        "CFGSYNC_SERVE_TRUSTED_PROXY": "10.0.0.0/8,::1",
        "CFGSYNC_SERVE_SIGNING_KEY": "signing.key",
        "CFGSYNC_SERVE_JSON_LOGS": "1",
        "CFGSYNC_SERVE_DEBUG": "1",
        "CFGSYNC_SERVE_PORT": "1",
        "CFGSYNC_SERVE_HINTS": "nats://a,nats://b",
        "CFGSYNC_SERVE_EVENTS_STREAM": "EVENTS",
        "CFGSYNC_SERVE_PROJECT_KV": "1",
    }
    given = read(variables).model_dump(exclude={"materializer", "server", "materializer_user"})
    assert {variable_of_field(field).name for field in given} == set(variables)
    assert given == {
        "store": "memory:",
        "admin_socket": "/run/a.sock",
        "hints": "nats://a,nats://b",
        "events_stream": "EVENTS",
        "project_kv": True,
        "host": ("::1",),
        "late": "freeze",
        "revision": "v2",
        "rollout": "all",
        "max_parallel": "3",
        "canary": 2,
        "bake": 60.0,
        "deadline": 90.0,
        "max_failures": "5%",
        "on_failure": "revert",
        "require_tokens": False,
        "run_timeout": 1.5,
        "shrink_guard": 20.0,
        "ttl": 90.0,
        "title": "blue fleet",
        "tls_cert": "c.pem",
        "tls_key": "c.key",
        "trusted_proxy": ("10.0.0.0/8", "::1/128"),
        "signing_key": "signing.key",
        "port": 1,
        **dict.fromkeys(
            ("allow_anonymous", "insecure_no_tls", "insecure_no_auth", "json_logs", "debug"), True
        ),
        "legacy_init_with_node": True,
        "legacy_replace": True,
        "no_page": True,
        "expose_errors": True,
        "page_contents": True,
        "documents": True,
        "open_documents": True,
        "allow_origin": ("https://example.com",),
        "validator": "app:Judge",
    }


def test_a_title_is_a_line_of_the_server_file_and_has_at_most_a_hundred_characters(here: Path):
    file = server_file(here, "title: blue fleet\n")
    assert read(materializer=None, config=file).title == "blue fleet"
    assert read(materializer=None, config=file, title="green").title == "green"
    assert refusal(title="x" * 101)[1] == "give at most 100 characters"


def test_how_a_change_reaches_the_fleet_is_read_from_flags_and_from_a_server_file(here: Path):
    lines = "rollout: rolling\nmax_parallel: 2\ncanary: 1\nbake: 30\ndeadline: 5m\nmax_failures: 10%\non_failure: revert\n"
    file = Path(server_file(here, lines))
    with pytest.raises(InputError, match="a bundle has no generations, and nodes take no turns"):
        read(materializer=None, config=str(file))
    (here / file).write_text((here / file).read_text().replace("kind: static", "kind: registration"))
    made = read(materializer=None, config=str(file)).rollout_policy
    assert made == Rollout("rolling", "2", 1, 30.0, 300.0, "10%", "revert")
    assert read(max_parallel="25%").rollout_policy.places(10) == 2
    for wrong in ({"max_parallel": "0"}, {"max_parallel": "200%"}, {"max_failures": "x"}, {"canary": -1}):
        assert refusal(**wrong)[0].startswith("--" + next(iter(wrong)).replace("_", "-"))


def test_a_bus_is_a_line_of_the_server_file_too(here: Path):
    lines = "hints: nats://127.0.0.1:4222\nevents_stream: EVENTS\nproject_kv: true\ndocuments: true\n"
    file = Path(server_file(here, lines))
    with pytest.raises(InputError, match=r"a bundle has no store"):
        read(materializer=None, config=str(file))
    (here / file).write_text((here / file).read_text().replace("kind: static", "kind: registration"))
    made = read(materializer=None, config=str(file))
    assert (made.hints, made.events_stream, made.project_kv) == ("nats://127.0.0.1:4222", "EVENTS", True)
    assert read(materializer=None, config=str(file), hints="nats://b").hints == "nats://b"
    (here / file).write_text((here / file).read_text().replace("hints: nats://127.0.0.1:4222\n", ""))
    with pytest.raises(InputError, match=r"events_stream: --hints is not given"):
        read(materializer=None, config=str(file))


def test_without_a_home_the_default_store_is_refused_with_the_flag_and_a_given_store_needs_none(
    monkeypatch: pytest.MonkeyPatch,
):
    def no_passwd_entry(_: object) -> str:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", classmethod(no_passwd_entry))
    assert refusal({"HOME": ""})[1] == "give --store sqlite:FILE"
    assert read({"HOME": ""}, store="memory:").store == "memory:"


def test_a_former_name_works_with_a_line_that_names_the_new_one_and_a_service_link_is_not_ours():
    said: list[str] = []
    variables = {"CFGSYNC_HOST": "::1", "CFGSYNC_PORT": "tcp://10.96.0.7:4400", "HOME": "/home/me"}
    made = read_serve_settings({"materializer": "app:Mine"}, variables, said.append)
    assert (made.host, made.port) == (("::1",), 4400)
    assert said == [
        "CFGSYNC_HOST is now called CFGSYNC_SERVE_HOST; the old name works in this release only",
        "CFGSYNC_PORT is ignored: tcp://10.96.0.7:4400 is a container platform's service link",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [("v2\r", "control character in it ('\\r', character 3 of 3)"), ('"v2"', "is in quotes")],
)
def test_a_value_that_no_shell_would_have_passed_on_is_refused_by_its_name(text: str, words: str):
    assert words in refusal({"CFGSYNC_SERVE_REVISION": text})[0]
    assert refusal({"CFGSYNC_SERVE_REVISION": text})[0].startswith("CFGSYNC_SERVE_REVISION ")
    assert refusal(revision=text)[0].startswith("--revision ")


def test_a_bundle_or_a_server_file_is_read_with_the_settings(here: Path):
    bundle = read(materializer=None, bundle="b.yaml").server
    assert bundle is not None
    assert (bundle.file, bundle.registered_only) == ("b.yaml", False)
    (here / "s.yaml").write_text(
        "port: 1\nbundle_path: b.yaml\nserving_mode: registration\nstore: 'sqlite:x.db'\n"
    )
    made = read(materializer=None, config="s.yaml")
    assert made.server is not None
    assert made.server.registered_only
    assert (made.port, made.store) == (1, f"sqlite:{here}/x.db")


def test_what_to_serve_is_taken_from_the_environment_only_when_no_flag_says_it(here: Path):
    variables = {"CFGSYNC_SERVE_BUNDLE": "b.yaml"}
    assert read(variables).materializer == "app:Mine"
    assert isinstance(read(variables, materializer=None).server, BundleServer)
    assert read({"CFGSYNC_SERVE_MATERIALIZER": "a:B"}, materializer=None).materializer == "a:B"


def test_a_host_may_be_repeated_by_flag_variable_and_file(here: Path):
    both = ("127.0.0.1", "::1")
    assert read(host=["127.0.0.1", "::1"]).host == both
    for text in ("127.0.0.1,::1", "127.0.0.1\n::1\n", " 127.0.0.1 , ::1"):
        assert read({"CFGSYNC_SERVE_HOST": text}).host == both
    assert read({"CFGSYNC_SERVE_HOST": "::1"}, host=["127.0.0.1"]).host == ("127.0.0.1",)
    for line in ("host: [127.0.0.1, '::1']", "host:\n- 127.0.0.1\n- '::1'"):
        assert read(materializer=None, config=server_file(here, f"{line}\n")).host == both
    assert refusal({"CFGSYNC_SERVE_HOST": ","})[0].startswith(
        "CFGSYNC_SERVE_HOST: tuple should have at least 1"
    )
    assert refusal({"CFGSYNC_SERVE_HOST": "::1,a b"})[0].endswith("found 'a b'")


def test_a_duration_is_seconds_or_has_units_by_flag_variable_and_file(here: Path):
    assert read(run_timeout="1h30m", ttl="250ms").run_timeout == 5400
    assert read({"CFGSYNC_SERVE_TTL": "2m"}).ttl == 120
    made = read(materializer=None, config=server_file(here, "run_timeout: 5m\nttl: 90\n"))
    assert (made.run_timeout, made.ttl) == (300, 90)
    what, _ = refusal(materializer=None, config=server_file(here, "ttl: never\n"))
    assert what.startswith("s.yaml:3:6: ttl: 'never' is not a duration")


# ── the default store ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_default_store_lies_in_the_state_directory_unless_that_is_relative():
    assert read({"XDG_STATE_HOME": "/s"}).store == "sqlite:/s/cfgsync/serve-app.Mine.db"
    assert read({"XDG_STATE_HOME": "s"}).store == "sqlite:/home/me/.local/state/cfgsync/serve-app.Mine.db"


def test_two_projects_with_modules_of_one_name_have_two_stores_and_each_always_the_same(
    tmp_path: Path, monkeypatch
):
    stores = []
    for project in ("one", "two", "one"):
        (tmp_path / project).mkdir(exist_ok=True)
        (tmp_path / project / "app.py").write_text("")
        monkeypatch.chdir(tmp_path / project)
        stores.append(read().store)
    assert stores[0] == stores[2] != stores[1]


def test_a_server_file_has_one_store_from_wherever_it_is_named(here: Path, monkeypatch):
    near = read(materializer=None, config=server_file(here)).store
    monkeypatch.chdir("/")
    assert read(materializer=None, config=f"{here}/s.yaml").store == near
    assert "/serve-s-" in near


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_refused_value_is_told_with_where_it_came_from(here: Path):
    assert refusal(port=70000)[0] == "--port: input should be less than or equal to 65535, found '70000'"
    assert refusal({"CFGSYNC_SERVE_PORT": "high"})[0].startswith(
        "CFGSYNC_SERVE_PORT: input should be a valid integer"
    )
    (here / "s.yaml").write_text("port: 70000\nbundle_path: b.yaml\n")
    what, hint = refusal(materializer=None, config="s.yaml")
    assert what == "s.yaml:1:7: port: input should be less than or equal to 65535, found '70000'"
    assert hint == "give a port from 1 to 65535, or 0 for one that is free"


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        ({"late": "never"}, "--late: input should be 'follow' or 'freeze', found 'never'"),
        ({"run_timeout": 0}, "--run-timeout: input should be greater than 0"),
        ({"run_timeout": float("inf")}, "--run-timeout: input should be a finite number"),
        ({"run_timeout": "0ms"}, "--run-timeout: input should be greater than 0"),
        (
            {"run_timeout": "soon"},
            "--run-timeout: 'soon' is not a duration: write 90, 250ms, 5m, 1h30m or 90d, found 'soon'",
        ),
        ({"host": [""]}, "--host: string should match"),
        (
            {"host": ["127.0.0.1", "[::1]"]},
            "--host: string should match pattern '^[A-Za-z0-9.:_-]+$', found '[::1]'",
        ),
        ({"store": ""}, "--store: string should have at least 1 character"),
        ({"materializer": None}, "nothing to serve"),
        ({"bundle": "b.yaml"}, "MODULE:CLASS and --bundle each name something to serve"),
        ({"materializer": "app"}, "'app' names no class"),
        ({"materializer": None, "bundle": "none.yaml"}, "none.yaml: no such file"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(flags: dict[str, object], what: str):
    assert refusal(**flags)[0].startswith(what)


def test_a_variable_that_is_no_boolean_is_refused():
    assert refusal({"CFGSYNC_SERVE_JSON_LOGS": "maybe"}) == (
        "CFGSYNC_SERVE_JSON_LOGS: input should be a valid boolean, unable to interpret input, found 'maybe'",
        "give true or false",
    )


# ── off loopback ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_host_that_others_reach_needs_tls_or_the_operators_word():
    assert refusal(host=["0.0.0.0"]) == (
        "host 0.0.0.0 is open to other machines, without TLS",
        "make a certificate (cfgsync tls init) and give --tls-cert and --tls-key; or,"
        " if you trust its network with that, add --insecure-no-tls",
    )
    pair = {"tls_cert": "c.pem", "tls_key": "c.key"}
    assert (read(host=["0.0.0.0"], **pair).lacking, read(host=["0.0.0.0"], **pair).requires_tokens) == (
        (),
        True,
    )
    assert read(host=["0.0.0.0"], insecure_no_auth=True, **pair).lacking == ("no-auth",)
    assert read(host=["0.0.0.0"], insecure_no_auth=True, insecure_no_tls=True, **pair).lacking == ("no-auth",)
    assert refusal(host=["0.0.0.0"], insecure_no_auth=True)[1].endswith("add --insecure-no-tls")
    assert read(host=["0.0.0.0"], insecure_no_tls=True, insecure_no_auth=True).host == ("0.0.0.0",)


@pytest.mark.parametrize(
    ("flags", "required"),
    [
        ({}, False),
        ({"require_tokens": True}, True),
        ({"host": ["0.0.0.0"], "insecure_no_tls": True}, True),
        ({"host": ["0.0.0.0"], "insecure_no_tls": True, "allow_anonymous": True}, True),
        ({"host": ["127.0.0.1", "10.0.0.1"], "insecure_no_tls": True}, True),
        ({"host": ["0.0.0.0"], "insecure_no_tls": True, "insecure_no_auth": True}, False),
        ({"insecure_no_auth": True}, False),
    ],
)
def test_tokens_are_required_off_loopback_and_where_the_operator_says_so(
    flags: dict[str, object], required: bool
):
    assert read(**flags).requires_tokens is required


def test_to_require_tokens_and_to_switch_them_off_is_a_contradiction():
    assert "contradicts" in refusal(require_tokens=True, insecure_no_auth=True)[0]
    for field in ("page_contents", "legacy_replace"):
        assert "--require-tokens" in refusal(require_tokens=True, **{field: True})[0]


def test_each_of_several_hosts_is_judged():
    assert refusal(host=["127.0.0.1", "192.168.0.1", "::"])[0].startswith("host 192.168.0.1 and :: is open")
    assert read(host=["127.0.0.1", "::1", "localhost"]).lacking == ()
    made = read(host=["::1", "10.0.0.1"], insecure_no_tls=True, insecure_no_auth=True)
    assert made.lacking == ("no-tls", "no-auth")


@pytest.mark.parametrize("field", ["page_contents", "legacy_replace"])
def test_what_a_server_opens_to_its_own_machine_it_does_not_open_to_others(here: Path, field: str):
    assert getattr(read(**{field: True}), field)
    open_door = {"host": ["0.0.0.0"], "insecure_no_tls": True, "insecure_no_auth": True}
    what, _ = refusal(**open_door, **{field: True})
    assert what.startswith(f"--{field.replace('_', '-')}: host 0.0.0.0 is open to other machines")
    file = server_file(here, f"{field}: true\n")
    assert getattr(read(materializer=None, config=file), field)
    what, _ = refusal(**open_door, materializer=None, config=file)
    assert what.startswith(f"s.yaml:3:{len(field) + 3}: ")
    assert read(**{field: False}, **open_door).host == ("0.0.0.0",)


def test_a_server_file_that_opens_a_host_is_answered_with_the_lines_to_add_and_they_suffice(here: Path):
    what, hint = refusal(materializer=None, config=server_file(here, "host: 0.0.0.0\n"))
    assert what.startswith("host 0.0.0.0 is open to other machines")
    assert hint.endswith("add `insecure_no_tls: true` to s.yaml")
    lines = "host: 0.0.0.0\ninsecure_no_tls: true\n"
    assert read(materializer=None, config=server_file(here, lines)).host == ("0.0.0.0",)


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("example.org", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, near: bool):
    assert is_loopback(host) is near


def test_documents_alone_are_something_to_serve_and_have_a_store_of_their_own():
    made = read(materializer=None, documents=True)
    assert (made.has_documents, made.materializer, made.server) == (True, None, None)
    assert made.store == "sqlite:/home/me/.local/state/cfgsync/serve-documents.db"
    assert read(materializer=None, open_documents=True).has_documents
    assert not read().has_documents
    for value in ({}, {"CFGSYNC_SERVE_DOCUMENTS": "false"}):
        assert refusal(value, materializer=None)[0] == "nothing to serve"


def test_documents_are_refused_beside_a_bundle_which_has_no_store(here: Path):
    (here / "b.yaml").write_text("nodes: []\n")
    what, hint = refusal(materializer=None, bundle="b.yaml", documents=True)
    assert what == "--documents: a bundle has no store to keep documents in"
    assert hint == "give documents a server of their own: cfgsync serve --documents"


def test_documents_are_opened_on_loopback_only():
    what, _ = refusal(host=["0.0.0.0"], insecure_no_tls=True, insecure_no_auth=True, open_documents=True)
    assert what.startswith("--open-documents: host 0.0.0.0 is open to other machines")


def test_a_signing_key_of_a_server_file_begins_at_its_directory(here: Path) -> None:
    settings = read(materializer=None, config=server_file(here, "signing_key: keys/s.key\n"))
    assert settings.signing_key is not None
    assert Path(settings.signing_key) == Path("keys/s.key")
    inner = here / "inner"
    inner.mkdir()
    (inner / "s.yaml").write_text(
        "port: 1\nsource: {kind: static, artifacts_path: ../b.yaml}\nsigning_key: s.key\n"
    )
    assert read(materializer=None, config="inner/s.yaml").signing_key == "inner/s.key"


def test_a_bundle_that_is_signed_takes_no_second_key(here: Path) -> None:
    (here / "b.yaml").write_text(f"{BUNDLE}revision: 3\nsignatures: {{a: xyz}}\n")
    what, do = refusal(materializer=None, bundle="b.yaml", signing_key="s.key")
    assert what == "--signing-key: b.yaml is signed already, and a node gets one signature"
    assert "leave the key out" in do


def test_a_materializers_user_needs_a_materializer_in_a_process_of_its_own(here: Path) -> None:
    assert read({"CFGSYNC_SERVE_MATERIALIZER_USER": "nobody"}).materializer_user == "nobody"
    assert refusal(materializer_user="nobody", debug=True)[0].startswith(
        "--materializer-user: --debug runs it"
    )
    what, _ = refusal(materializer=None, bundle="b.yaml", materializer_user="nobody")
    assert what == "--materializer-user: no materializer is served"


def test_an_origin_is_scheme_host_and_port_and_needs_documents():
    assert read(documents=True, allow_origin=["HTTPS://Example.com:8443"]).allow_origin == (
        "https://example.com:8443",
    )
    for text in ("example.com", "https://example.com/", "*"):
        assert refusal(documents=True, allow_origin=[text])[0].startswith("--allow-origin: not an origin")
    assert (
        refusal(allow_origin=["https://example.com"])[0] == "--allow-origin: this server serves no documents"
    )


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        ({"project_kv": True, "documents": True}, "--project-kv: --hints is not given"),
        ({"events_stream": "EVENTS"}, "--events-stream: --hints is not given"),
        ({"project_kv": True, "hints": "nats://a"}, "--project-kv: this server serves no documents"),
    ],
)
def test_what_needs_a_bus_or_documents_is_refused_without(flags: dict[str, object], what: str):
    with pytest.raises(InputError) as refused:
        read(**flags)
    assert what in str(refused.value)
