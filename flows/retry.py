"""Which failures are retried."""

from __future__ import annotations

from typing import Any

from components.errors import UserError


def worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Whether to retry: not after user errors, which would recur. A retried training resumes from its checkpoint."""
    try:
        state.result()
    except UserError:
        return False
    except Exception:
        return True
    return False
