"""Everything that can go wrong on purpose.

TidegateError
  +- Refused          401  unauthenticated      always the same words
  +- NotVisible       404  not-found            absent, or not yours: the caller cannot tell which
  +- NotAllowed       403  not-allowed          visible to you, but not this action
  +- Invalid          422  invalid              names the field and the rule
  +- TooLarge         413  too-large            names the limit in bytes
  +- Conflict         409  conflict             the state of the thing does not permit it now
  |    +- LimitReached     limit-reached        names limit, use and what was asked
  |    +- NameTaken        name-taken           names the cluster that has the name
  +- BackendFailed    502  backend-failed       the public half never quotes the backend
  |    +- DiskFull    507  disk-full            what is on record can still be read
  +- Busy             503  busy                 carries when to come back
       +- TooManyAttempts 429 too-many-attempts    names what there was too much of

Each error has a ``code`` (for programs), a ``message`` (a sentence for the user that says what happened, to what,
and what to do) and ``detail`` (for the operator: it goes to the log, never to the user). ``api/app.py`` is the one
place that turns an error into a status.
"""

from __future__ import annotations


class TidegateError(Exception):
    """The root of everything that Tidegate raises on purpose.

    Parameters
    ----------
    message : str
        One or more sentences for the user.
    detail : str, optional
        What the operator needs besides; never sent to a user.
    """

    status = 500
    code = "error"

    def __init__(self, message: str, *, detail: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class Refused(TidegateError):
    """The caller did not prove who they are. The words never tell which part was wrong."""

    status = 401
    code = "unauthenticated"

    def __init__(self, message: str = "Authentication required", *, detail: str | None = None) -> None:
        super().__init__(message, detail=detail)


class LoginFailed(TidegateError):
    """A login by another page came to nothing; the sentence is for the person who tried."""

    status = 401
    code = "login-failed"


class NotVisible(TidegateError):
    """The thing is absent, or it is not the caller's: the answer is the same to the byte."""

    status = 404
    code = "not-found"


class NotAllowed(TidegateError):
    """The caller may see the thing, but may not do this to it."""

    status = 403
    code = "not-allowed"


class Invalid(TidegateError):
    """The input breaks a rule. ``field`` names what to change."""

    status = 422
    code = "invalid"

    def __init__(self, message: str, *, field: str | None = None, detail: str | None = None) -> None:
        super().__init__(message, detail=detail)
        self.field = field


class TooLarge(TidegateError):
    """The body is larger than the server reads."""

    status = 413
    code = "too-large"


class Conflict(TidegateError):
    """The request is well formed, but the thing is not in a state that permits it."""

    status = 409
    code = "conflict"


class LimitReached(Conflict):
    """A limit forbids it. The message names the limit, the use so far and what was asked."""

    code = "limit-reached"


class NameTaken(Conflict):
    """Another cluster of the same owner has this name."""

    code = "name-taken"


class BackendFailed(TidegateError):
    """The backend would not do what was asked. ``permanent`` means that asking again will not help."""

    status = 502
    code = "backend-failed"

    def __init__(self, message: str, *, detail: str | None = None, permanent: bool = False) -> None:
        super().__init__(message, detail=detail)
        self.permanent = permanent


class DiskFull(BackendFailed):
    """There is no room to record anything. What is on record can be read; changes work again as soon as there is."""

    status = 507
    code = "disk-full"


class Busy(TidegateError):
    """Not now. ``retry_after`` says in how many seconds to come back."""

    status = 503
    code = "busy"

    def __init__(self, message: str, *, retry_after: float = 1.0, detail: str | None = None) -> None:
        super().__init__(message, detail=detail)
        self.retry_after = retry_after


class TooManyAttempts(Busy):
    """There were too many wrong logins before this one; it was not looked at."""

    status = 429
    code = "too-many-attempts"
