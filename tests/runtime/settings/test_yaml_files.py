"""Bundle and server files: every form of the original is read, and every mistake is named with its line."""

import base64
import logging
from pathlib import Path

import pytest

from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_runtime.errors import InputError
from cfgsync_runtime.settings.bundle_file import load_bundle
from cfgsync_runtime.settings.server_file import load_server_file

LISTED = """\
nodes:
  - identifier: node-1
    files:
      - path: /config.yaml
        content: "a: 1"
shared_files:
  - path: /deployment.yaml
    content: "x: 1"
"""
NAMED = """\
nodes:
  node-1:
    files:
      - path: /config.yaml
        content: "a: 1"
shared:
  files:
    - {path: /deployment.yaml, content: "x: 1"}
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str | bytes, name: str = "b.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(path: Path, load=load_bundle) -> str:
    """`line:column: what` and the hint, as the two lines that a person sees, without the directory."""
    with pytest.raises(InputError) as refused:
        load(path)
    assert "\n" not in str(refused.value)
    assert refused.value.hint
    assert "\n" not in refused.value.hint
    return f"{refused.value}\n{refused.value.hint}".replace(f"{path.parent}/", "").replace(
        str(path.parent), "DIR"
    )


def files(text: str) -> str:
    return f"nodes:\n  - identifier: n\n    files:\n{text}"


# ── bundles that are read ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", [LISTED, NAMED], ids=["listed", "named"])
def test_both_forms_of_the_original_give_the_same_bundle(write, text: str):
    bundle = load_bundle(write(text))
    (entry,) = bundle.nodes
    assert entry.identifier == "node-1"
    assert entry.files == ArtifactSet([ArtifactFile("/config.yaml", "a: 1")])
    assert bundle.shared_files == ArtifactSet([ArtifactFile("/deployment.yaml", "x: 1")])


def test_binary_content_and_modes_are_read(write):
    data = bytes(range(256))
    text = files(
        f"      - {{path: /k, content: {base64.b64encode(data).decode()}, encoding: base64, mode: 0600}}\n"
        "      - {path: /x, content: '#!/bin/sh', mode: '0755', encoding: text}\n"
    )
    assert list(load_bundle(write(text)).nodes[0].files) == [
        ArtifactFile("/k", data, "0600"),
        ArtifactFile("/x", "#!/bin/sh", "0755"),
    ]


def test_scalars_without_quotes_are_the_text_as_written(write):
    text = "nodes:\n  - {identifier: no, files: [{path: 010, content: 1_000}, {path: /d, content: 2024-01-01}]}\n"
    (entry,) = load_bundle(write(text)).nodes
    assert entry.identifier == "no"
    assert [(f.path, f.content) for f in entry.files] == [("010", "1_000"), ("/d", "2024-01-01")]


def test_an_empty_file_is_written_with_quotes_and_a_forgotten_content_is_refused(write):
    assert load_bundle(write(files("      - {path: /e, content: ''}\n"))).nodes[0].files[0].content == ""
    assert refusal(write(files("      - path: /e\n        content:\n"))) == (
        "b.yaml:5:17: nodes[0].files[0].content: expected text, found nothing\n"
        'write `content: ""` for an empty file'
    )


def test_an_alias_stands_for_its_anchor(write):
    text = "nodes:\n  - {identifier: a, files: &f [{path: /x, content: y}]}\n  - {identifier: b, files: *f}\n"
    one, two = load_bundle(write(text)).nodes
    assert one.files == two.files == ArtifactSet([ArtifactFile("/x", "y")])


MERGED = """\
nodes:
  - identifier: a
    files:
      - &secret {path: /unused, content: "", mode: "0600"}
      - &owned {path: /other, content: owned}
  - identifier: b
    files:
      - {<<: *secret, path: /key, content: hunter2}
      - {path: /list, <<: [*owned, *secret]}
      - {"<<": *secret, path: /quoted, content: x}
"""


def test_a_merge_key_gives_what_the_mapping_does_not_say_itself_and_the_first_of_a_list_wins(write, caplog):
    with caplog.at_level(logging.WARNING):
        _, entry = load_bundle(write(MERGED)).nodes
    assert list(entry.files) == [
        ArtifactFile("/key", "hunter2", "0600"),
        ArtifactFile("/list", "owned", "0600"),
        ArtifactFile("/quoted", "x"),
    ]
    (record,) = caplog.records
    assert "unknown key ignored" in record.getMessage(), "in quotes it is a key like any other"


def test_a_merged_mapping_can_be_merged_again_and_merges_into_server_files(write):
    text = "nodes:\n- identifier: n\n  files:\n  - &a {path: /a, content: x, mode: '0600'}\n  - &b {<<: *a, path: /b}\n  - {<<: *b, path: /c}\n"
    assert [file.mode for file in load_bundle(write(text)).nodes[0].files] == ["0600"] * 3
    load_bundle(write(LISTED, "b.yaml"))
    server = write(
        "base: &base {kind: static, artifacts_path: b.yaml}\nsource: {<<: *base}\nport: !!int 4401\n",
        "s.yaml",
    )
    assert not load_server_file(server).server.registered_only


def test_binary_of_yaml_is_written_as_its_bytes(write):
    text = files(
        "      - {path: /a, content: !!binary AAEC/w==}\n"
        "      - path: /b\n        encoding: base64\n        content: !!binary |\n          AAEC\n          /w==\n"
    )
    assert [file.content for file in load_bundle(write(text)).nodes[0].files] == [b"\0\1\2\xff"] * 2


def test_the_tag_of_text_makes_text_of_anything(write):
    text = files("      - {path: !!str 010, content: !!str ~}\n      - {path: /b, content: ! null}\n")
    assert [(f.path, f.content) for f in load_bundle(write(text)).nodes[0].files] == [
        ("010", "~"),
        ("/b", "null"),
    ]


def test_a_byte_order_mark_is_passed_over(write):
    assert load_bundle(write(b"\xef\xbb\xbf" + LISTED.encode())).nodes[0].identifier == "node-1"


def test_an_unknown_key_is_passed_over_and_said_with_its_line(write, caplog):
    with caplog.at_level(logging.WARNING):
        load_bundle(write(files("      - {path: /x, content: y, mod: '0600'}\n")))
    (record,) = caplog.records
    assert record.getMessage().endswith(
        "b.yaml:4:32: nodes[0].files[0].mod: unknown key ignored; known here: path, content, mode, encoding"
    )


def test_a_node_that_gets_no_files_at_all_is_said(write, caplog):
    with caplog.at_level(logging.WARNING):
        load_bundle(write("nodes: [{identifier: a}]"))
    assert "node a gets no files" in caplog.text


# ── bundles that are refused ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "b.yaml: empty"),
        ("# only a remark\n", "b.yaml: empty"),
        ("- a\n", "b.yaml:1:1: expected a mapping, found a list"),
        ("hello\n", "b.yaml:1:1: expected a mapping, found 'hello'"),
        ("shared_files: []\n", "b.yaml:1:1: no `nodes` in it"),
        ("nodes: 3\n", "b.yaml:1:8: nodes: expected a mapping, found '3'"),
        ("nodes:\n", "b.yaml:1:7: nodes: expected a mapping, found nothing"),
        ("nodes:\n- x\n", "b.yaml:2:3: nodes[0]: expected a mapping, found 'x'"),
        ("nodes:\n- files: []\n", "b.yaml:2:3: nodes[0]: no `identifier` in it"),
        ("nodes:\n- identifier: [a]\n", "b.yaml:2:15: nodes[0].identifier: expected text, found a list"),
        ("nodes:\n- identifier: a b\n", "b.yaml:2:15: nodes[0].identifier: 'a b' is not 1 to 128 of"),
        ("nodes:\n  ok: {}\n  a..b: {}\n", "b.yaml:3:3: nodes.a..b: 'a..b' is not 1 to 128 of"),
        (
            "nodes:\n- identifier: a\n- identifier: b\n- identifier: a\n",
            "b.yaml:4:15: nodes[2].identifier: a is given twice, first as nodes[0]",
        ),
        ("nodes:\n  a: {}\n  a: {}\n", "b.yaml:3:3: the key 'a' is given twice, first on line 2"),
        (files("      path: /x\n"), "b.yaml:4:7: nodes[0].files: expected a list, found a mapping"),
        (files("      - content: x\n"), "b.yaml:4:9: nodes[0].files[0]: no `path` in it"),
        (files("      - path: /x\n"), "b.yaml:4:9: nodes[0].files[0]: no `content` in it"),
        (
            files("      - {path: /x, content: a}\n      - {path: {}, content: a}\n"),
            "b.yaml:5:16: nodes[0].files[1].path: expected text, found a mapping",
        ),
        (files("      - {path: '', content: a}\n"), "b.yaml:4:16: nodes[0].files[0].path: a path is text"),
        (
            files("      - {path: /x, content: a, mode: '4755'}\n"),
            "b.yaml:4:38: nodes[0].files[0].mode: mode '4755' is not four octal digits",
        ),
        (
            files("      - {path: /mode, content: '', mode: 600}\n"),
            "b.yaml:4:42: nodes[0].files[0].mode: mode '600' is not four octal digits",
        ),
        (
            files("      - {path: /x, content: '?', encoding: base64}\n"),
            "b.yaml:4:29: nodes[0].files[0].content: not base64",
        ),
        (
            files("      - {path: /x, content: 'é', encoding: base64}\n"),
            "b.yaml:4:29: nodes[0].files[0].content: not base64",
        ),
        (
            files("      - {path: /x, content: '', encoding: gzip}\n"),
            "b.yaml:4:43: nodes[0].files[0].encoding: expected base64 or text, found 'gzip'",
        ),
        (
            files("      - {path: /x, content: a}\n      - {path: /x, content: b}\n"),
            "b.yaml:5:9: nodes[0].files[1]: the path '/x' is given twice, first as [0]",
        ),
        (
            files("      - {path: /x, content: a}\nshared_files:\n  - {path: /x, content: b}\n"),
            "b.yaml:6:12: shared_files[0].path: the shared file '/x' hides the own file of node n",
        ),
        (
            "nodes:\n  n: {files: [{path: /x, content: a}]}\nshared:\n  files: [{path: /x, content: b}]\n",
            "b.yaml:4:18: shared.files[0].path: the shared file '/x' hides the own file of node n",
        ),
        ("nodes: []\nshared: {files: []}\n", "b.yaml:2:1: shared: belongs to the other form of bundles"),
        ("nodes: {}\nshared_files: []\n", "b.yaml:2:1: shared_files: belongs to the other form of bundles"),
        ("nodes: {}\nshared: []\n", "b.yaml:2:9: shared: expected a mapping, found a list"),
        ("nodes:\n\t- a\n", "b.yaml:2:1: not YAML while scanning for the next token"),
        ("nodes: [a\n", "b.yaml:2:1: not YAML while parsing a flow sequence that began on line 1"),
        ("a: b: c\n", "b.yaml:1:5: not YAML: mapping values are not allowed in this context"),
        ("nodes: \x07\n", "b.yaml:1: not YAML: control characters are not allowed"),
        ("a: é\nnodes: \x07\n", "b.yaml:2: not YAML: control characters are not allowed"),
        (b"nodes:\n- \xff\n", "b.yaml:2: not UTF-8 text (byte 0xff)"),
        (LISTED.encode("utf-16"), "b.yaml:1: not UTF-8 text (byte 0xff)"),
        (files("      - {path: /k, content: !vault x}\n"), "b.yaml:4:29: the tag !vault means nothing here"),
        (files("      - !include f.yaml\n"), "b.yaml:4:9: the tag !include means nothing here"),
        ("nodes: !!set {a: {}}\n", "b.yaml:1:8: the tag !!set means nothing here"),
        (
            "nodes: !!python/object:os.system {}\n",
            "b.yaml:1:8: the tag !!python/object:os.system means nothing",
        ),
        ("nodes: !!seq {}\n", "b.yaml:1:8: the tag !!seq means nothing here"),
        ("!secret nodes: []\n", "b.yaml:1:1: the tag !secret means nothing here"),
        (
            files("      - {path: /k, content: !!int 010}\n"),
            "b.yaml:4:29: nodes[0].files[0].content: expected text, found !!int '010'",
        ),
        (
            files("      - {path: !!binary L2s=, content: x}\n"),
            "b.yaml:4:16: nodes[0].files[0].path: expected text, found !!binary 'L2s='",
        ),
        (
            files("      - {path: /k, content: !!binary '?'}\n"),
            "b.yaml:4:29: nodes[0].files[0].content: not base64",
        ),
        (
            files("      - {path: /k, content: !!binary aGk=, encoding: text}\n"),
            "b.yaml:4:54: nodes[0].files[0].encoding: the content is !!binary",
        ),
        ("<<: 3\nnodes: []\n", "b.yaml:1:1: a merge key (`<<`) takes a mapping"),
        ("<<: [{}, x]\nnodes: []\n", "b.yaml:1:1: a merge key (`<<`) takes a mapping"),
        ("<<: {}\n<<: {}\nnodes: []\n", "b.yaml:2:1: a second `<<`, the first is on line 1"),
        (
            files("      - {path: /a/../b, content: x}\n"),
            "b.yaml:4:16: nodes[0].files[0].path: illegal path: component '..'",
        ),
        (
            files("      - {path: /a, content: x}\n      - {path: /A/b, content: x}\n"),
            "b.yaml:5:16: nodes[0].files[1].path: illegal path: it collides with 'a'",
        ),
        (
            files(
                "      - {path: /a, content: x}\nshared_files:\n  - {path: /b, content: x}\n  - {path: /a/c, content: x}\n"
            ),
            "b.yaml:7:12: shared_files[1].path: illegal path: it collides with 'a'",
        ),
        (
            "nodes:\n  n: {files: []}\n  m: {files: [{path: /x., content: a}]}\n",
            "b.yaml:3:22: nodes.m.files[0].path: illegal path",
        ),
        (
            "nodes:\n  m: {files: [{path: /x, content: a}]}\nshared:\n  files: [{path: //y, content: a}]\n",
            "b.yaml:4:18: shared.files[0].path: illegal path: a component is empty",
        ),
        (
            files(f"      - {{path: /big, content: {'x' * (2**23 + 1)}}}\n"),
            "b.yaml:4:31: nodes[0].files[0].content: the file has 8388609 bytes",
        ),
        (
            files("".join(f"      - {{path: /{n}, content: ''}}\n" for n in range(1001))),
            "b.yaml:4:7: nodes[0].files: 1001 files with the shared ones, a node takes 1000",
        ),
        ("nodes: []\n---\nnodes: []\n", "b.yaml:2:1: a second document begins"),
        ("nodes: *x\n", "b.yaml:1:8: *x names no value"),
        ("nodes: &x [*x]\n", "b.yaml:1:12: *x is inside the value that it names"),
        ("? [a]\n: b\n", "b.yaml:1:5: expected a key, found a list or mapping"),
        ("nodes: " + "[" * 100_000, "b.yaml:1:39: nested deeper than 32"),
    ],
)
def test_a_mistake_in_a_bundle_is_named_with_its_place(write, text: str | bytes, what: str):
    assert refusal(write(text)).startswith(what)


def test_the_second_line_says_what_to_do(write):
    assert refusal(write("nodes:\n\t- a\n")).endswith(
        "\nline 2 is indented with a tab; YAML takes spaces only"
    )
    assert refusal(write(files("      - path: /x\n"))).endswith(
        '\na file is `{path: /config.yaml, content: "…"}`, if need be with `mode: "0600"` or `encoding: base64`'
    )


def test_ten_lines_that_stand_for_gigabytes_are_refused_before_they_are_written_out(write):
    lines = ["a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol,lol]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "b.yaml:7:" in refusal(write("\n".join(lines)))
    assert "larger than 256 MiB" in refusal(write("\n".join(lines)))


def test_merges_that_stand_for_gigabytes_are_refused(write):
    wide = ", ".join(f"k{n}: ''" for n in range(10_000))
    lines = [f"a0: &a0 {{{wide}}}", *(f"a{n}: {{<<: *a0, x: [*a0, *a0, *a0]}}" for n in range(1, 200))]
    assert "larger than 256 MiB" in refusal(write("\n".join(lines)))


def test_a_file_that_cannot_be_read_is_refused(write, tmp_path: Path):
    assert refusal(tmp_path / "none.yaml").startswith("none.yaml: no such file\n")
    (tmp_path / "dir").mkdir()
    assert refusal(tmp_path / "dir").startswith("dir: is a directory\n")
    assert "cannot be read" in refusal(write("") / "x")


def test_a_file_without_permission_is_refused(write, monkeypatch):
    def closed(*_: object) -> None:  # the tests may run as root, whom no mode stops
        raise PermissionError(13, "Permission denied")

    path = write(LISTED)
    monkeypatch.setattr(Path, "open", closed)
    assert refusal(path).startswith("b.yaml: no permission to read it\n")


# ── server files ─────────────────────────────────────────────────────────────────────────────────────────────────────

SERVERS = {
    "static": "source: {kind: static, artifacts_path: b.yaml}",
    "bundle": "source: {kind: bundle, bundle_path: b.yaml}",
    "bundle, new name": "source: {kind: bundle, artifacts_path: b.yaml}",
    "oldest": "bundle_path: b.yaml",
    "oldest, said": "bundle_path: b.yaml\nserving_mode: bundle",
    "registration": "source: {kind: registration, artifacts_path: b.yaml}",
    "registration_bundle": "source: {kind: registration_bundle, bundle_path: b.yaml}",
    "oldest registration": "bundle_path: b.yaml\nserving_mode: registration",
    "source wins": "source: {kind: registration, artifacts_path: b.yaml}\nbundle_path: x.yaml\nserving_mode: bundle",
}


@pytest.mark.parametrize("form", [LISTED, NAMED], ids=["listed", "named"])
@pytest.mark.parametrize("name", SERVERS)
def test_all_three_generations_of_server_files_are_read_with_both_forms_of_bundles(
    write, name: str, form: str
):
    bundle = write(form)
    server = load_server_file(write(f"port: 4401\n{SERVERS[name]}\n", "s.yaml")).server
    assert server.file == str(bundle)
    assert server.registered_only == ("registration" in SERVERS[name])
    assert server.bundle == load_bundle(bundle)


def test_the_settings_of_a_server_file_are_read_with_their_places(write, tmp_path: Path):
    write(LISTED)
    text = (
        "port: 4401\nhost: 0.0.0.0\nstore: sqlite:state.db\ninsecure_no_tls: true\ninsecure_no_auth: false\n"
        "allow_anonymous: true\nbundle_path: b.yaml\n"
    )
    settings = load_server_file(write(text, "s.yaml")).settings
    assert {name: value for name, (value, _) in settings.items()} == {
        "port": 4401,
        "host": ["0.0.0.0"],
        "store": f"sqlite:{tmp_path}/state.db",
        "insecure_no_tls": True,
        "insecure_no_auth": False,
        "allow_anonymous": True,
    }
    assert settings["host"][1] == f"{tmp_path}/s.yaml:2:7: host"


@pytest.mark.parametrize("url", ["sqlite:/var/x.db", "memory:", "postgresql://h/db"])
def test_a_store_that_is_not_a_relative_file_stays_as_it_is(write, url: str):
    write(LISTED)
    text = f"port: 1\nbundle_path: b.yaml\nstore: '{url}'\n"
    assert load_server_file(write(text, "s.yaml")).settings["store"][0] == url


def test_relative_names_begin_at_the_directory_of_the_server_file(write, tmp_path: Path, monkeypatch):
    (tmp_path / "etc").mkdir()
    write(LISTED)
    server = write("port: 1\nbundle_path: ../b.yaml\n", "etc/s.yaml")
    monkeypatch.chdir("/")
    assert not load_server_file(server).server.registered_only
    absolute = write(f"port: 1\nbundle_path: {tmp_path}/b.yaml\n", "etc/s.yaml")
    assert not load_server_file(absolute).server.registered_only


def test_unknown_keys_of_a_server_file_are_ignored_with_a_warning(write, caplog):
    write(LISTED)
    with caplog.at_level(logging.WARNING):
        load_server_file(
            write("port: 1\nn_hosts: 3\nsource: {kind: static, artifacts_path: b.yaml, x: 1}\n", "s.yaml")
        )
    said = [record.getMessage().split("s.yaml:")[1].split(" ignored")[0] for record in caplog.records]
    assert said == ["2:1: n_hosts: unknown key", "3:48: source.x: unknown key"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("bundle_path: b.yaml\n", "s.yaml:1:1: no `port` in it"),
        ("port: high\nbundle_path: b.yaml\n", "s.yaml:1:7: port: expected a whole number, found 'high'"),
        ("port: -1\nbundle_path: b.yaml\n", "s.yaml:1:7: port: expected a whole number, found '-1'"),
        ("port: 1\n", "s.yaml:1:1: cfgsync server config requires source.kind or legacy bundle_path"),
        ("port: 1\nsource: static\n", "s.yaml:2:9: source: expected a mapping, found 'static'"),
        ("port: 1\nsource: {artifacts_path: b.yaml}\n", "s.yaml:2:9: source: no `kind` in it"),
        ("port: 1\nsource: {kind: static}\n", "s.yaml:2:9: source: no `artifacts_path` in it"),
        (
            "port: 1\nsource: {kind: dynamic, artifacts_path: b.yaml}\n",
            "s.yaml:2:16: source.kind: expected one of static, bundle, registration, registration_bundle, found 'dynamic'",
        ),
        (
            "port: 1\nsource: {kind: static, artifacts_path: b.yaml, bundle_path: c.yaml}\n",
            "s.yaml:2:61: source.bundle_path: names another file than `artifacts_path`",
        ),
        (
            "port: 1\nbundle_path: b.yaml\nserving_mode: both\n",
            "s.yaml:3:15: serving_mode: expected one of bundle, registration, found 'both'",
        ),
        ("port: 1\nbundle_path: none.yaml\n", "s.yaml:2:14: bundle_path: none.yaml does not exist"),
        ("port: 1\nbundle_path: bad.yaml\n", "bad.yaml:1:1: no `nodes` in it"),
        (
            "port: 1\nbundle_path: b.yaml\ninsecure_no_tls: yes\n",
            "s.yaml:3:18: insecure_no_tls: expected true or false, found 'yes'",
        ),
        ("port: 1\nbundle_path: b.yaml\nhost: []\n", "s.yaml:3:7: host: expected text, found a list"),
    ],
)
def test_a_mistake_in_a_server_file_is_named_with_its_place(write, text: str, what: str):
    write(LISTED)
    write("x: 1\n", "bad.yaml")
    assert refusal(write(text, "s.yaml"), load_server_file).startswith(what + "\n")


def test_the_shrink_guard_and_the_ttl_are_read_from_the_server_file(tmp_path):
    (tmp_path / "bundle.yaml").write_text("nodes: []\n")
    text = "port: 1\nshrink_guard: 20\nttl: 90\nsource: {kind: registration, artifacts_path: bundle.yaml}\n"
    (tmp_path / "server.yaml").write_text(text)
    read = load_server_file(tmp_path / "server.yaml")
    assert read.settings["shrink_guard"][0] == 20
    assert read.settings["ttl"][0] == "90"
