"""MLflow's UI and the playground, served in the foreground. Prefect's server has its own UI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

from components.console import say
from components.errors import UserError
from components.redaction import shown_address
from components.runs.places import places
from components.tracking.mlflow_client import ui_command
from flows.server import Server


def serve(port: int | None = None, playground: int = 8000) -> None:
    """Print the addresses, and serve MLflow's UI and the playground until Ctrl-C. If the playground's port is taken,
    for example by `reprise api`, MLflow's UI is still served.

    Raises:
        UserError: MLflow's UI can't be served.
    """
    where = places()
    settings = replace(where.settings, ui_port=port) if port else where.settings
    prefect = Server(where.prefect)
    prefect.begin()
    commands, addresses = {"the playground": ["flows.cli", "api", "--port", str(playground)]}, {}
    if not settings.served:
        arguments, addresses = ui_command(settings)
        commands["MLflow"] = ["mlflow", *arguments]
    say(f"MLflow      {settings.ui_url}/#/experiments?workflowType=machine_learning")
    say(f"Prefect     {shown_address(prefect.wait() or f'did not start: {prefect.log}')}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the subprocesses are stopped
    processes = {
        name: subprocess.Popen([sys.executable, "-m", *command], env=os.environ | addresses)
        for name, command in commands.items()
    }
    try:
        while processes:
            time.sleep(0.2)
            for name in [name for name, process in processes.items() if process.poll() is not None]:
                del processes[name]
                if name == "MLflow":
                    hint = "is the port in use? Choose another with --port"
                    raise UserError("MLflow's UI stopped", where=f"port {settings.ui_port}", hint=hint)
                say(f"{name} stopped (is port {playground} in use? Choose another with --playground)")
    except KeyboardInterrupt:
        pass
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()
