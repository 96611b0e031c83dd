"""The command line: `reprise`."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

try:
    from components.console import out, prepare
    from components.errors import UserError
    from components.redaction import without_secrets

    # importing a command makes it one
    from flows.commands import look, models, new, operate, serving, train, use  # noqa: F401
    from flows.commands.base import app
except KeyboardInterrupt:  # these imports take a moment, in which Ctrl-C may be pressed
    print("stopped.", file=sys.stderr)
    raise SystemExit(130) from None


def main() -> None:
    """The console command. Exit codes: 2 for user errors, with one message; 130 for Ctrl-C; 1 for failures."""
    # read when torch is imported: spinning threads make training several times slower on a busy machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    prepare()
    try:
        _check_arguments(sys.argv[1:])
        app(sys.argv[1:], result_action="return_value")
        if failed := _not_written():
            raise failed
    except UserError as error:
        _end(2, f"error: {error}")
    except KeyboardInterrupt:
        runs = sys.modules.get("components.runs.open_run")
        stopped = runs.stopped if runs else []
        saved = [f"The training so far is saved: reprise resume {run_id[:8]}" for run_id in stopped]
        _end(130, " ".join(["stopped.", *saved[-1:]]))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        if os.environ.get("REPRISE_DEBUG"):
            _end(1, traceback.format_exc())
        if isinstance(error, OSError) and error.filename is None and (failed := _not_written()):
            _end(2, f"error: {failed}")
        if isinstance(error, OSError) and error.filename is not None:  # a path that can't be used
            _end(2, f"error: {os.fsdecode(error.filename)}: {error.strerror}")
        _end(1, f"failed: {type(error).__name__}: {error}\n(set REPRISE_DEBUG=1 to see the traceback)")


def _not_written() -> UserError | None:
    """The error if standard output can't be written, because its disk is full, say; else None."""
    error = out.failed
    if error is None and sys.stdout is not None:  # None: closed
        try:
            print(end="", flush=True)
        except BrokenPipeError:
            raise
        except OSError as failed:
            error = failed
            out.on_broken_pipe()
    if error is None:
        return None
    return UserError(f"{error.strerror}: some of the output is missing", where="standard output")


def _check_arguments(arguments: list[str]) -> None:
    """Reject arguments that can't be decoded in this locale; they would fail later, in a prompt or a file name."""
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError:
            what = f"{argument!a} isn't {sys.getfilesystemencoding()} text"
            raise UserError(what, where="arguments", hint="write it as UTF-8, with LC_ALL=C.UTF-8") from None


def _end(code: int, message: str) -> NoReturn:
    print(without_secrets(message), file=sys.stderr)
    raise SystemExit(code) from None


if __name__ == "__main__":
    main()
