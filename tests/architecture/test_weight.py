"""Opening a door or asking for help loads no web server and no validator (see speed.md's start of a node)."""

import json
import textwrap

LOADED = """
    import json, sys

    def heavy():
        print(json.dumps(sorted(n for n in sys.modules if n == "pydantic" or n.startswith("aiohttp.web"))))
"""


def test_importing_the_adapter_loads_neither_a_web_server_nor_pydantic(run_python):
    program = (
        LOADED
        + """
    import cfgsync_adapter
    heavy()
    """
    )
    assert json.loads(run_python("-c", textwrap.dedent(program))) == []


def test_resolving_every_public_name_of_the_adapter_loads_neither_a_web_server_nor_pydantic(run_python):
    program = (
        LOADED
        + """
    import cfgsync_adapter
    for name in getattr(cfgsync_adapter, "__all__", []):
        getattr(cfgsync_adapter, name)
    heavy()
    """
    )
    assert json.loads(run_python("-c", textwrap.dedent(program))) == []


def test_the_help_of_fetch_loads_neither_aiohttp_nor_pydantic(run_python):
    program = (
        LOADED
        + """
    from cfgsync_runtime.cli import main
    sys.argv = ["cfgsync", "fetch", "--help"]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, stop.code
    print()
    heavy()
    assert "aiohttp" not in sys.modules
    """
    )
    printed = run_python("-c", textwrap.dedent(program))
    assert "--server" in printed
    assert json.loads(printed.splitlines()[-1]) == []


def test_a_node_that_verifies_loads_the_libraries_only_when_files_have_come(run_python, tmp_path):
    key = tmp_path / "signing.key"
    program = f"""
    import sys
    from cfgsync_runtime.access.signatures import make_key_pair
    make_key_pair({str(key)!r})
    """
    run_python("-c", textwrap.dedent(program))
    program = f"""
    import sys
    from cfgsync_runtime.cli.parts.fetch import node_start
    from cfgsync_runtime.access.signatures import Verifier
    verify = Verifier([{str(key)!r} + ".pub"])
    heavy = {{"asyncio", "aiohttp", "pydantic", "ssl", "cryptography", "securesystemslib"}}
    print(sorted(heavy & sys.modules.keys()))
    """
    # msgspec and http.client load these because they are there: the command hides them meanwhile
    assert set(json.loads(run_python("-c", textwrap.dedent(program)).replace("'", '"'))) <= {"ssl"}


def test_a_plain_serve_and_a_plain_fetch_load_no_typer(run_python):
    program = """
    import sys
    from cfgsync_runtime.cli import entry
    from cfgsync_runtime.cli.parts.serve import plain_serve, server_run
    assert plain_serve.plain_flags(["app:M", "--port", "0"]) is not None
    print(sorted({"typer", "click", "rich"} & sys.modules.keys()))
    """
    assert run_python("-c", textwrap.dedent(program)).strip() == "[]"
