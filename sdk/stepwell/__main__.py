"""The console script: the client's own commands, and those that the server registers.

The server's commands are found through the entry-point group ``stepwell.commands``, so that neither
side imports the other.  An entry point is a function without arguments that returns, for each
command, one line of help and ``module:function``; such a function takes the arguments after the
command's name and returns the exit code.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module

Commands = dict[str, tuple[str, str]]

OWN: Commands = {
    "sync": ("send what earlier runs could not", "stepwell.sync:main"),
    "version": ("print the version", "stepwell.__main__:version"),
}
USAGE = """usage: stepwell COMMAND [ARGUMENTS]

{commands}

`stepwell COMMAND --help` explains a command, with an example.
"""
WRONG_USE, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


def version(arguments: list[str]) -> int:
    """Print the version of the installed distribution."""
    if arguments and arguments != ["--help"]:
        print(f"stepwell version: unknown argument {arguments[0]}", file=sys.stderr)
        return WRONG_USE
    if arguments:
        print("usage: stepwell version\n\nPrint the version.\n\nexample:\n  stepwell version")
        return 0
    from stepwell import __version__

    print(f"stepwell {__version__}")
    return 0


def registered() -> Commands:
    """The server's commands.  Raises ImportError where its entry point is not whole."""
    from importlib.metadata import entry_points

    found: Commands = {}
    for entry in entry_points(group="stepwell.commands"):
        found.update(entry.load()())
    return found


def resolve(target: str) -> Callable[[list[str]], int]:
    module, _, name = target.partition(":")
    function: Callable[[list[str]], int] = getattr(import_module(module), name)
    return function


def help_text() -> str:
    try:
        known = {**registered(), **OWN}
    except ImportError:
        known = OWN
    width = max(map(len, known))
    return USAGE.format(
        commands="\n".join(f"  {name:{width}}  {line}" for name, (line, _) in known.items())
    )


def find(name: str) -> Callable[[list[str]], int] | None:
    """The command of that name, None where there is none.  Raises ImportError."""
    known = OWN if name in OWN else registered()
    return resolve(known[name][1]) if name in known else None


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; docs/cli.md lists them."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(help_text(), end="")
        return 0
    try:
        command = find("version" if name == "--version" else name)
        if command is None:
            print(f"stepwell: unknown command {name!r}\n\n{help_text()}", end="", file=sys.stderr)
            return WRONG_USE
        code = command(rest)
        sys.stdout.flush()
        return code
    except ImportError as error:
        print(f"stepwell {name}: pip install 'stepwell[server]' ({error})", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader left (`| head`); point stdout elsewhere, or the interpreter's last flush
        # would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


if __name__ == "__main__":
    sys.exit(main())
