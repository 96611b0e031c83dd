"""The command line: `reprise`."""

from __future__ import annotations

import os
import sys

from components.errors import UserError
from flows.commands import look, models, operate, serving, train, use  # noqa: F401 - importing a command makes it one
from flows.commands.base import app


def main() -> None:
    """The console command. A user's mistake is one message and exit code 2; Ctrl-C is 130; a failure is 1."""
    # read when torch is loaded: threads that spin at barriers make training several times slower on a busy machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(result_action="return_value")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        runs = sys.modules.get("flows.runs")
        kept = [f"What was trained is kept: reprise resume {run_id[:8]}" for run_id in (runs.stopped if runs else [])]
        print(" ".join(["stopped.", *kept[-1:]]), file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        if os.environ.get("REPRISE_DEBUG"):
            raise
        print(f"failed: {type(error).__name__}: {error}\n(REPRISE_DEBUG=1 shows where)", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
