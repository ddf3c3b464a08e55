"""What the client raises, and when.

GatewayError
  +- GatewayClusterError                        a cluster cannot be started, has failed, has ended
  +- GatewayServerError                         the gateway itself has failed, or its answer makes no sense
  |    +- GatewayConnectionError (OSError)      nobody answers at the address
  +- GatewayValueError      (ValueError)        the gateway refuses what was asked: it names the value and the rule
  +- GatewayAuthError       (PermissionError)   the gateway does not know you, or does not let you

Every message begins with what could not be done and ends with what to do about it. The first two have the names that
users of dask-gateway know, and ``GatewayValueError`` is a ``ValueError`` because theirs is one.
"""

from __future__ import annotations

NOT_THERE = "there is none of this name, or it is neither yours nor shared with you"
"""Why a cluster cannot be found. The gateway does not tell which: what one may not see does not exist."""


class GatewayError(Exception):
    """The root of what this client raises on purpose. ``code`` is for programs; empty where there is none."""

    code = ""


class GatewayClusterError(GatewayError):
    """A cluster cannot be started, has failed or has ended.

    Parameters
    ----------
    message : str
        What happened and what to do.
    code : str, optional
        The reason's code, for programs; one of those in the reference of reasons.
    log_tail : str, optional
        The last lines of the log that shows it; they become part of the text.
    """

    def __init__(self, message: str, *, code: str = "", log_tail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.log_tail = log_tail.rstrip()

    def __str__(self) -> str:
        if not self.log_tail:
            return self.message
        lines = "\n".join(f"    {line}" for line in self.log_tail.splitlines())
        return f"{self.message}\n\nThe last lines of its log:\n{lines}"


class GatewayServerError(GatewayError):
    """The gateway has failed, or what answers at its address is not a gateway."""


class GatewayConnectionError(GatewayServerError, OSError):
    """Nobody answers at the gateway's address."""


class GatewayValueError(GatewayError, ValueError):
    """The gateway refuses a value; the message names it and the rule that it breaks."""


class GatewayAuthError(GatewayError, PermissionError):
    """The gateway does not know who is asking, or does not let them."""


class GatewayWarning(UserWarning):
    """Something was done differently from what was asked, or will probably not work."""
