"""`cfgsync COMMAND`: the help lines are here, so that showing them, or running one command, loads no other.

A command's module offers `command`, a function with typer's annotations, and, where it needs them, `settings` for
`typer.Typer.command`; one with commands of its own offers `app`. A command ends with `raise typer.Exit(code)`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from cfgsync_artifacts import CfgsyncError

from ..process.garbage import collection_paused
from ..settings.variables import PREFIX, SHARED, Variable, blanks_of, refuse_unusable, variable_of
from .parts.messages import fail, failed, note

COMMANDS: Final = {
    "demo": "A whole boot on this machine, watched live.",
    "serve": "Serve a materializer, a bundle or a server configuration.",
    "fetch": "Register this node, write its files, start a command.",
    "status": "Which nodes are here, which are missing, and why.",
    "check": "Run a materializer on a recorded fleet; no server.",
    "generation": "List, show and compare generations, or make a new one.",
    "node": "List and show nodes, remove one, or replace its files.",
    "rollout": "How far a change has come; stop it, go on, or take it back.",
    "config": "Read and write config documents, and their history.",
    "token": "Make, list and revoke tokens of nodes, readers and operators.",
    "bundle": "Check a bundle, sign it, or verify its signatures.",
    "tls": "Make a server's certificate, or show one.",
    "store": "Check a store, back it up or move it.",
}
"""Every command and its line in `cfgsync --help`; its module has the same name."""

COMPLETION: Final = ("--install-completion", "--show-completion")

VARIABLES: Final = "Every flag is also an environment variable, {names}; the flag wins."

HELP: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"]}
"""What shows the help, for every command below the one that has it."""

PLAIN: Final[dict[str, Any]] = {
    "add_completion": False,
    "rich_markup_mode": None,  # rich takes 65 ms to load, and a node's log is no terminal
    "pretty_exceptions_enable": False,
}


_KINDS: Final = {
    "a valid int range": "a whole number",
    "a valid int": "a whole number",
    "a valid float range": "a number",
    "a valid float": "a number",
}
"""The library's names for what it expected, in plain words."""


class LazyGroup(TyperGroup):
    """A group whose commands are imported when they run."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        with collection_paused():
            module = importlib.import_module(f"{__package__}.{cmd_name}")
        if hasattr(module, "app"):
            return _tidied(typer.main.get_command(module.app), cmd_name)
        return made_of(module.command, cmd_name, getattr(module, "settings", {}))

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """The commands' names, without loading a command for its name."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        library = typer.BadParameter.__module__.rpartition(".")[0]  # click, or the copy of it in typer
        item = importlib.import_module(f"{library}.shell_completion").CompletionItem
        return [item(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def made_of(function: Any, name: str, settings: dict[str, Any]) -> Any:
    """The command `name` of a function with typer's annotations."""
    app = typer.Typer(**PLAIN)
    app.command(name, **settings)(function)
    return _tidied(typer.main.get_command(app), name)


def _tidied(command: Any, path: str) -> Any:
    """A command whose every flag has its variable; `--help` names that rule once, and shows the arguments as they are.

    `envvar=[]` marks a flag whose variable the command reads itself.
    """
    shared: list[str] = []
    for parameter in command.params:
        if parameter.param_type_name == "option":
            flag = parameter.opts[0].removeprefix("--")
            parameter.show_envvar = False
            is_shared = flag in SHARED and flag != "env" and path != "demo"
            shared += [variable_of(path, flag).name] if is_shared else []
            if parameter.envvar is None:
                variable = variable_of(path, flag)
                parameter.envvar = variable.name
                parameter.value_from_envvar = partial(_from_variable, parameter, variable)
            if parameter.type.name == "str":
                parameter.consume_value = partial(_checked, parameter, parameter.consume_value)
        elif parameter.required:
            parameter.make_metavar = lambda *_, shown=parameter.metavar, **__: shown
    commands = getattr(command, "commands", None)
    for name, one in commands.items() if commands else ():
        _tidied(one, f"{path} {name}")
    if not commands:
        own = variable_of(path, "flag").name.removesuffix("FLAG")
        names = f"{own}<FLAG>"
        if shared and own != PREFIX:
            names += f" (but {', '.join(shared)})"
        if path == "fetch":
            names += " (but CFGSYNC_FETCH_WATCH, _JSON, _STATE)"
        command.epilog = VARIABLES.format(names=names)
    return command


def _from_variable(parameter: Any, variable: Variable, ctx: Any) -> str | list[str] | None:
    """The text of a flag's variable; a flag that may be repeated takes one value from each line."""
    if ctx.resilient_parsing:
        return None
    found = variable.read(say=note, blanks="\n" if parameter.multiple else blanks_of(parameter.metavar))
    if found is None:
        return None
    if not parameter.multiple:
        return found[1]
    lines = [line for line in found[1].split("\n") if line]
    for line in lines:
        refuse_unusable(found[0], line)
    return lines


def _checked(parameter: Any, consume: Any, ctx: Any, given: Any) -> Any:
    """The value of a flag, and where it comes from. Raises `InputError` for one that no shell would have passed on."""
    value, source = consume(ctx, given)
    if source.name == "COMMANDLINE" and not ctx.resilient_parsing:
        for text in value if parameter.multiple else [value]:
            refuse_unusable(parameter.opts[0], text, blanks_of(parameter.metavar))
    return value, source


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print("cfgsync", version("cfgsync-runtime"))
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Boot a fleet: nodes register, get their files, and start.

    \b
    Examples:
      cfgsync demo
      cfgsync serve app:MyMaterializer
      cfgsync fetch --id node-1 --out out/node-1
      cfgsync status

    Every flag of a command is also an environment variable, CFGSYNC_<COMMAND>_<FLAG>; the flag wins. Each command's
    --help says more.
    """


def command_line() -> Any:
    """The whole command line, as a click group."""
    app = typer.Typer(
        cls=LazyGroup, no_args_is_help=True, **{**PLAIN, "add_completion": True}, context_settings=HELP
    )
    app.callback()(_root)
    return typer.main.get_command(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code. Every failure is two lines on stderr."""
    completion = next((word for word in arguments or sys.argv[1:] if word in COMPLETION), None)
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    try:
        code = command_line().main(arguments, prog_name="cfgsync", standalone_mode=False)
    except usage_error as error:
        return _usage(error)
    except typer.Abort:
        return 130
    except CfgsyncError as error:
        return failed(error)
    except OSError as error:
        if completion is None or error.filename is None:
            raise
        return fail(
            1, f"{completion}: {error.filename}: {error.strerror}", "--show-completion prints the script"
        )
    if code and completion is not None:
        # after the library's message
        print("run it in bash, zsh, fish or powershell", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _usage(error: Any) -> int:
    path = error.ctx.command_path if error.ctx is not None else "cfgsync"
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.ctx.get_help())
        return 2
    message = error.format_message()
    for theirs, ours in _KINDS.items():
        message = message.replace(theirs, ours)
    return fail(2, f"{path}: {message}", f"see: {path} --help")
