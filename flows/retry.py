"""Which failures another attempt may mend."""

from __future__ import annotations

from typing import Any

from components.errors import UserError


def worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Not the user's mistakes: those fail the same way again. Training that is tried again goes on from its
    checkpoint."""
    try:
        state.result()
    except UserError:
        return False
    except Exception:
        return True
    return False
