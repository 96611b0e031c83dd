"""Commands that serve models over HTTP."""

from __future__ import annotations

from flows.commands.base import OPERATE, app


@app.command(group=OPERATE)
def api(*, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve the registered models over HTTP, with a playground in the browser. Ctrl-C stops it.

    There is no authentication: anyone who can reach the address can use the models.

    Example: `reprise api --port 8000`

    Args:
        host: Address to listen on; 127.0.0.1 = this machine only.
        port: Port to listen on.
    """
    import os
    import sys

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from components.runs.places import places
    from components.serving.app import serve

    serve(places().settings, host, port)
    # nothing is left to save, and a normal exit with torch and MLflow loaded takes seconds
    sys.stdout.flush()
    os._exit(0)
