"""Wrong logins: who has to wait, for how long, and who never does."""

from __future__ import annotations

import base64

import pytest

from tests.in_process import Clock
from tidegate.authn.base import Presented
from tidegate.authn.limits import ADDRESSES, FORGET_SECONDS, Allowance, Attempt, LoginLimits
from tidegate.model.errors import Busy, LoginFailed, NotAllowed, TooManyAttempts

OFFICE, ELSEWHERE = "192.0.2.7", "198.51.100.9"
TOKEN = "tdg_" + "x" * 43


@pytest.fixture
def clock() -> Clock:
    """Time that moves when it is told to."""
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> LoginLimits:
    """Three guesses of a name, twenty of an address; many people come from 127.0.0.1."""
    return LoginLimits(Allowance(3, 60.0, 20), lambda address: address in ("", "127.0.0.1"), clock)


def password(secret: str, name: str = "alice", address: str = OFFICE) -> Attempt:
    """Return an attempt with a name and a password."""
    pair = base64.b64encode(f"{name}:{secret}".encode()).decode()
    return Attempt.of(Presented("basic", pair), address)


def token(secret: str, address: str = OFFICE) -> Attempt:
    """Return an attempt with a token."""
    return Attempt.of(Presented("bearer", secret), address)


def guess(limits: LoginLimits, attempt: Attempt, *, right: bool = False) -> None:
    """Let an attempt be judged."""
    with limits.judging(attempt) as judged:
        if right:
            judged.right()


def use_up(limits: LoginLimits, count: int = 3, name: str = "alice", address: str = OFFICE) -> None:
    """Guess so many passwords."""
    for number in range(count):
        guess(limits, password(f"guess {number}", name, address))


def wait_of(limits: LoginLimits, attempt: Attempt) -> float:
    """Return for how long an attempt has to wait."""
    with pytest.raises(TooManyAttempts) as refused:
        guess(limits, attempt)
    return refused.value.retry_after


def test_the_wait_grows_with_each_wrong_password(limits: LoginLimits, clock: Clock) -> None:
    """Up to the longest; and the words say how long it is."""
    use_up(limits)
    waits = []
    for number in range(6):
        waits.append(wait_of(limits, password(f"further {number}")))
        clock.now += waits[-1]
        guess(limits, password(f"further {number}"))

    assert waits == [5, 10, 20, 40, 60, 60]
    with pytest.raises(TooManyAttempts, match=r"wrong passwords for this name from your address. Try again in"):
        guess(limits, password("one more"))


def test_the_right_password_waits_like_the_others(limits: LoginLimits, clock: Clock) -> None:
    """Else the wait would tell which one it is."""
    use_up(limits)

    assert wait_of(limits, password("right")) == 5
    clock.now += 5
    guess(limits, password("right"), right=True)


def test_nobody_can_lock_a_person_out_from_elsewhere(limits: LoginLimits) -> None:
    """However many passwords somebody tries for alice at another address."""
    for address in (ELSEWHERE, "127.0.0.1"):
        use_up(limits, address=address)
        assert wait_of(limits, password("right", address=address)) == 5

    guess(limits, password("right"), right=True)


def test_others_at_the_same_address_do_not_wait_for_one_name(limits: LoginLimits) -> None:
    """The address has a limit of its own."""
    use_up(limits)

    guess(limits, password("right", "bob"), right=True)


def test_the_same_mistake_again_is_no_guess(limits: LoginLimits) -> None:
    """A notebook with an old password, or an old token, troubles neither itself nor its neighbours."""
    for _ in range(1000):
        guess(limits, password("old"))
        guess(limits, token("old"))

    guess(limits, password("new"), right=True)
    use_up(limits, 2)
    assert wait_of(limits, password("further")) == 5
    guess(limits, password("old"))


def test_what_is_right_does_not_wipe_out_what_was_wrong(limits: LoginLimits) -> None:
    """A program of alice's that logs in all the time must not give somebody beside it a new start each time."""
    for number in range(2):
        guess(limits, password(f"guess {number}"))
        guess(limits, password("right"), right=True)
    guess(limits, password("guess 2"))

    assert wait_of(limits, password("guess 3")) == 5


def test_guesses_count_before_they_are_judged(limits: LoginLimits) -> None:
    """A thousand at once would else all begin before the first was found wrong."""
    with limits.judging(password("a")), limits.judging(password("b")), limits.judging(password("c")):
        assert wait_of(limits, password("d")) == 5


def test_all_is_forgotten_after_an_hour(limits: LoginLimits, clock: Clock) -> None:
    """Not a moment before: each guess is one of few."""
    use_up(limits, 5 - 2)
    clock.now += FORGET_SECONDS - 1
    guess(limits, password("another"))
    assert wait_of(limits, password("one more")) == 10

    clock.now += FORGET_SECONDS + 1
    use_up(limits, 2)


def test_one_address_makes_so_many_guesses_a_minute(limits: LoginLimits, clock: Clock) -> None:
    """Whatever it guesses: names, tokens."""
    for number in range(20):
        guess(limits, token(f"{TOKEN}{number}") if number % 2 else password("x", f"name {number}"))

    assert 59 <= wait_of(limits, token("another")) <= 60
    with pytest.raises(TooManyAttempts, match=r"too many wrong logins from your address. Try again in 60 seconds"):
        guess(limits, password("x", "bob"))
    guess(limits, token("another", ELSEWHERE))
    clock.now += 61
    guess(limits, token("another"))


def test_a_token_that_was_right_goes_on_beside_a_flood(limits: LoginLimits) -> None:
    """Nobody can guess it, so nothing is given away; a password has no such way around."""
    for name in ("alice", "a:b"):
        guess(limits, password(TOKEN, name), right=True)
    guess(limits, token("of the Hub"), right=True)
    guess(limits, password("right"), right=True)
    for number in range(20):
        guess(limits, token(f"wrong {number}"))

    guess(limits, token("of the Hub"), right=True)
    guess(limits, password(TOKEN), right=True)
    with pytest.raises(TooManyAttempts):
        guess(limits, password("right"), right=True)


def test_a_token_that_became_wrong_is_like_any_other(limits: LoginLimits) -> None:
    """After it was revoked it counts."""
    guess(limits, token("of the Hub"), right=True)
    guess(limits, token("of the Hub"))
    for number in range(19):
        guess(limits, token(f"wrong {number}"))

    with pytest.raises(TooManyAttempts):
        guess(limits, token("another"))


def test_where_all_have_one_address_it_does_not_count(limits: LoginLimits) -> None:
    """One flood would lock out everybody behind the same proxy."""
    for number in range(100):
        guess(limits, token(f"wrong {number}", "127.0.0.1"))
        guess(limits, token(f"wrong {number}", ""))


def test_a_network_of_ipv6_is_one_client(limits: LoginLimits) -> None:
    """Whoever has one address of a /64 has them all; an IPv4 address in IPv6 clothes is itself."""
    for number in range(3):
        guess(limits, password(f"guess {number}", address=f"2001:db8:1:2::{number}"))
        guess(limits, password(f"guess {number}", address=f"::ffff:{OFFICE}"))

    assert wait_of(limits, password("more", address="2001:db8:1:2:3:4:5:6")) == 5
    assert wait_of(limits, password("more")) == 5
    guess(limits, password("more", address="2001:db8:1:3::1"))
    guess(limits, password("more", address="::ffff:192.0.2.8"))


@pytest.mark.parametrize(
    ("error", "counts"), [(LoginFailed("no"), True), (Busy("later"), False), (NotAllowed(""), False)]
)
def test_what_nobody_could_judge_does_not_count(limits: LoginLimits, error: Exception, counts: bool) -> None:
    """A Hub that is down would else make everybody wait once it is up."""
    for number in range(3):
        with pytest.raises(type(error)), limits.judging(password(f"guess {number}")):
            raise error

    if counts:
        assert wait_of(limits, password("more")) == 5
    else:
        guess(limits, password("more"))


def test_memory_is_bounded(limits: LoginLimits) -> None:
    """However many addresses there are, and the newest are remembered."""
    for number in range(ADDRESSES + 10):
        guess(limits, token("x", f"203.0.{number // 256}.{number % 256}"))

    assert len(limits._addresses) == ADDRESSES


def test_a_terminal_that_asks_too_soon_is_known(limits: LoginLimits, clock: Clock) -> None:
    """The provider would be asked as often as anybody likes, by us."""
    assert [limits.asks_too_soon("a"), limits.asks_too_soon("a"), limits.asks_too_soon("b")] == [False, True, False]
    clock.now += 1.0
    assert not limits.asks_too_soon("a")


def test_no_secret_is_shown() -> None:
    """In a log, say."""
    assert "hunter2" not in repr(Attempt(OFFICE, b"alice", b"hunter2"))
