"""The MLflow UI over our store, in the foreground."""

from __future__ import annotations

import subprocess
import sys

from components.errors import UserError
from components.tracking.mlflow_client import ui_command
from flows.console import say
from flows.places import places
from flows.server import Server


def serve() -> None:
    """Say where the UIs are and run MLflow's until Ctrl-C."""
    where = places()
    settings = where.settings
    prefect = Server(where.prefect).url()
    say(f"MLflow   {settings.ui_url}/#/experiments?workflowType=machine_learning")
    say(f"Prefect  {prefect or 'not running (`reprise run` starts it)'}")
    say("playground: reprise api")
    if settings.served:
        say("the MLflow server is the one of mlflow.yaml; nothing to start")
        return
    say("Ctrl-C ends the MLflow UI")
    process = subprocess.Popen([sys.executable, "-m", "mlflow", *ui_command(settings)])
    try:
        if process.wait():
            raise UserError(
                f"the UI ended with code {process.returncode}",
                where=f"port {settings.ui_port}",
                hint="is the port taken? ui.port in mlflow.yaml chooses another",
            )
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
