"""What the client raises.

::

    StepwellError
    ├── WrongUse         a call that cannot be right; raised only with STEPWELL_STRICT=1
    ├── Unreachable      no answer: refused, timed out, reset, DNS, TLS
    ├── BadReply         an answer that makes no sense: not a Stepwell server?
    └── ServerError      an answer other than success; ``status`` and ``problem`` say more
        ├── Denied       401, 403
        ├── NotFound     404
        ├── Refused      400, 409, 413, 415, 422: repeating the same call is of no use
        └── Unavailable  everything else (408, 429, 5xx): later it may work

Logging never raises any of them but WrongUse, and that only where it was asked for.  Reading
(``get_*``, ``search_*``, ``download_*``) raises them all.
"""

from __future__ import annotations

from stepwell.wire import Problem


class StepwellError(Exception):
    """Everything that the client raises on purpose."""


class WrongUse(StepwellError, ValueError):
    """The caller's mistake; without STEPWELL_STRICT=1 it is a count instead, and one warning for
    each ``kind`` of mistake.
    """

    def __init__(self, text: str, kind: str = "use") -> None:
        self.kind = kind
        super().__init__(text)


class Unreachable(StepwellError):
    """The server did not answer.  Where logging meets it, the data stays in the spool."""


class BadReply(StepwellError):
    """The answer is no answer of this API; a proxy's login page, perhaps."""


class ServerError(StepwellError):
    """The server answered, but not with success."""

    def __init__(self, problem: Problem) -> None:
        self.status = problem.status
        self.problem = problem
        fields = "; ".join(f"{error.path}: {error.detail}" for error in problem.errors)
        text = f"{problem.status} {problem.title}: {problem.detail}"
        super().__init__(f"{text} ({fields})" if fields else text)

    def __reduce__(self) -> tuple[type[ServerError], tuple[Problem]]:
        """A worker process's error comes back pickled."""
        return type(self), (self.problem,)


class Denied(ServerError):
    """No or wrong token, or a role that is too low."""


class NotFound(ServerError):
    """Unknown, or another tenant's."""


class Refused(ServerError):
    """The request itself is at fault."""


class Unavailable(ServerError):
    """The server cannot do it now."""


KINDS: dict[int, type[ServerError]] = {
    401: Denied,
    403: Denied,
    404: NotFound,
    400: Refused,
    409: Refused,
    413: Refused,
    415: Refused,
    422: Refused,
}


def from_problem(problem: Problem) -> ServerError:
    """The error of an answer's status."""
    return KINDS.get(problem.status, Unavailable)(problem)
