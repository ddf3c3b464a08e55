"""One-time login codes."""

from __future__ import annotations

from tests.in_process import Clock
from tidegate.authn.codes import CODE_LIMIT, CODE_SECONDS, LoginCodes
from tidegate.model.principal import Principal

ALICE = Principal("alice")


def test_a_code_works_once() -> None:
    """The second use finds nothing."""
    codes = LoginCodes(Clock())
    code = codes.mint(ALICE)

    assert codes.redeem(code) == ALICE
    assert codes.redeem(code) is None


def test_a_code_expires() -> None:
    """After ten minutes it is worth nothing."""
    clock = Clock()
    codes = LoginCodes(clock)
    code = codes.mint(ALICE)

    clock.now += CODE_SECONDS

    assert codes.redeem(code) is None


def test_nonsense_is_no_code() -> None:
    """Whatever stands in the link, it is looked up and not found."""
    codes = LoginCodes(Clock())
    codes.mint(ALICE)

    assert [codes.redeem(text) for text in ("", "é\udc80", "x" * 10_000)] == [None] * 3


def test_codes_do_not_pile_up() -> None:
    """The oldest goes when there are too many, and what is kept is not the code."""
    codes = LoginCodes(Clock())
    first, *_, last = [codes.mint(ALICE) for _ in range(CODE_LIMIT + 1)]

    assert codes.redeem(first) is None
    assert last not in repr(codes._open)
    assert codes.redeem(last) == ALICE
