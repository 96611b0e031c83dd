"""Commands that serve models over HTTP."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from flows.commands.base import OPERATE, app


@app.command(group=OPERATE)
def api(
    *,
    host: Annotated[str, Parameter(help="The address to listen on; 127.0.0.1: for this machine alone.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="The port to listen on.")] = 8000,
) -> None:
    """Serve the registered models over HTTP, with a playground to try them in a browser; Ctrl-C ends it.

    Whoever can reach the address can use the models: there are no passwords.

    Example: `reprise api --port 8000`
    """
    import os
    import sys

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from components.runs.places import places
    from components.serving.app import serve

    serve(places().settings, host, port)
    # nothing is left to be saved, and a process with torch and MLflow in it takes seconds to be taken apart
    sys.stdout.flush()
    os._exit(0)
