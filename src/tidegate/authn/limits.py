"""How often somebody may be wrong about who they are.

How to think about it
---------------------
* **What counts is a guess**: something wrong that was not said before. A program that repeats one password that is out
  of date makes one guess, however often it comes; who tries passwords makes many.
* **Of one name from one address**: after ``wrong_passwords`` guesses each further one has to wait, longer each time.
  The address is part of the key, so nobody can lock a person out from elsewhere. Who shares the attacker's address has
  to wait with them; a session, or a token, goes on meanwhile.
* **From one address, whoever is named**: ``per_address`` a minute. Behind an address that many people share (a proxy
  that is not known by name, this machine) that would punish all for one, so there it does not count.
* **What cannot be guessed** (a token of 256 bits, a Kerberos ticket) has no name to wait for. Such a thing that was
  right lately is let through whatever else comes from its address. For a password the same would be a way around.
* A guess is counted before it is judged, and struck out when it was right: a thousand at once are a thousand.

Kept in this process's memory, and bounded: a restart forgets, which is no gain, for nobody can cause one from outside.
The package ``limits`` counts requests in windows: it knows neither the growing wait, nor what is the same guess again,
nor how to take one back, and this is shorter than what would have to be built around it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tidegate.authn.base import Presented
from tidegate.authn.tokens import SECRET
from tidegate.model.errors import LoginFailed, Refused, TooManyAttempts
from tidegate.wire.addresses import network_of

FIRST_DELAY = 5.0
"""Seconds to wait after the guess that was one too many; it doubles with each further one."""

FORGET_SECONDS = 3600.0
"""After an hour without a wrong guess all is forgotten: about 500 a day for who waits for that each time."""

ADDRESS_SECONDS = 60.0
"""What ``per_address`` is counted over."""

NAMES, ADDRESSES, RIGHT = 10_000, 2_000, 10_000
"""How many of each are remembered at the most, the longest unused go first: some tens of MB under attack."""

HANDLES, POLL_SECONDS = 10_000, 1.0
"""A terminal asks every five seconds whether its code was typed (RFC 8628, 3.2). Sooner than this nobody is asked."""

_WRONG = (Refused, LoginFailed)
"""What says that a guess was wrong. After anything else nobody knows, so it does not count."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much is allowed.

    Parameters
    ----------
    wrong_passwords : int
        Guesses of one name from one address before each has to wait.
    longest_delay : float
        Seconds that it has to wait at the most.
    per_address : int
        Guesses a minute from one address.
    """

    wrong_passwords: int = 10
    longest_delay: float = 300.0
    per_address: int = 100


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody wants to prove who they are.

    Parameters
    ----------
    address : str
        Whence; empty where that is not known.
    name : bytes
        Whom they say that they are, if that is to be proved by something that can be guessed; else empty.
    proof : bytes
        By what.
    """

    address: str
    name: bytes
    proof: bytes = field(repr=False)

    @classmethod
    def of(cls, presented: Presented, address: str) -> Attempt:
        """Return what an ``Authorization`` header attempts."""
        name, proof = b"", f"{presented.scheme} {presented.value}".encode("utf-8", "surrogatepass")
        if presented.scheme == "basic":
            try:
                pair = base64.b64decode(presented.value.encode("ascii"), validate=True)
            except (UnicodeEncodeError, binascii.Error):
                pair = b""
            if not SECRET.fullmatch(pair.rpartition(b":")[2].decode("ascii", "replace")):
                name = pair.partition(b":")[0]
        return cls(address, name, proof)


class Judged:
    """What became of an attempt; wrong until it is said to be right."""

    def __init__(self) -> None:
        self.is_right = False

    def right(self) -> None:
        """Say that it was right, or that it was no guess."""
        self.is_right = True


class LoginLimits:
    """Counts wrong guesses.

    Parameters
    ----------
    allowance : Allowance
    shared : callable
        Whether many people may come from an address. By default: from this machine, and from nobody knows where.
    clock : callable
        Returns the time in seconds, from wherever.
    """

    def __init__(
        self,
        allowance: Allowance | None = None,
        shared: Callable[[str], bool] = lambda address: address in ("", "127.0.0.1", "::1"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowance = allowance or Allowance()
        self._shared = shared
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._names: _Recent[bytes, _Guesses] = _Recent(NAMES, _Guesses)
        self._addresses: _Recent[str, _Guesses] = _Recent(ADDRESSES, _Guesses)
        self._right: _Recent[bytes, bool] = _Recent(RIGHT, lambda: True)
        self._asked: _Recent[bytes, float] = _Recent(HANDLES, lambda: 0.0)

    @contextmanager
    def judging(self, attempt: Attempt) -> Iterator[Judged]:
        """Count an attempt while it is judged.

        Raises
        ------
        TooManyAttempts
            At once, when there were too many wrong ones before.
        """
        proof, now, judged = self._digest(attempt.name, attempt.proof), self._clock(), Judged()
        counted = self._admit(attempt, proof, now)
        taken = [(guesses, guesses.add(proof, now)) for guesses in counted]
        try:
            yield judged
        except _WRONG:
            raise
        except BaseException:
            judged.right()
            raise
        finally:
            if judged.is_right:
                for guesses, before in taken:
                    guesses.take_back(proof, before)
                if not attempt.name:
                    self._right.touch(proof)
            else:
                self._right.discard(proof)

    def asks_too_soon(self, handle: str) -> bool:
        """Whether a terminal has asked about its login less than a moment ago."""
        key, now = self._digest(b"", handle.encode("utf-8", "surrogatepass")), self._clock()
        before = self._asked.find(key)
        if before is not None and now - before < POLL_SECONDS:
            return True
        self._asked.put(key, now)
        return False

    def _admit(self, attempt: Attempt, proof: bytes, now: float) -> list[_Guesses]:
        """Return where a guess is to be counted, if it may be made."""
        network = network_of(attempt.address)
        counted = []
        if attempt.name:
            guesses = self._names.touch(self._digest(attempt.name, network.encode()))
            if wait := guesses.wait_for_name(proof, now, self._allowance):
                raise _too_many("wrong passwords for this name from your address", wait)
            counted.append(guesses)
        if not self._shared(attempt.address) and not self._shared(network):
            guesses = self._addresses.touch(network)
            wait = guesses.wait_for_address(proof, now, self._allowance)
            if wait and (attempt.name or self._right.find(proof) is None):
                raise _too_many("wrong logins from your address", wait)
            counted.append(guesses)
        return counted

    def _digest(self, *parts: bytes) -> bytes:
        # Keyed, so that memory holds nothing that a password could be found by; each part is as long as it says.
        text = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hashlib.blake2b(text, key=self._key, digest_size=16).digest()


class _Guesses:
    """The different wrong guesses under one key, in the order of their time."""

    __slots__ = ("_last", "_proofs")

    def __init__(self) -> None:
        self._proofs: dict[bytes, float] = {}
        self._last = 0.0

    def wait_for_name(self, proof: bytes, now: float, allowance: Allowance) -> float:
        """Return the seconds until the next guess of this name, 0 if it may be made now."""
        if self._proofs and now - self._last > FORGET_SECONDS:
            self._proofs.clear()
        above = len(self._proofs) - allowance.wrong_passwords
        if above < 0 or proof in self._proofs:
            return 0.0
        # 2**40 seconds are enough for whatever an administrator calls longest.
        return max(0.0, self._last + min(allowance.longest_delay, FIRST_DELAY * 2.0 ** min(above, 40)) - now)

    def wait_for_address(self, proof: bytes, now: float, allowance: Allowance) -> float:
        """Return the seconds until the next guess from this address, 0 if it may be made now."""
        for known, at in list(self._proofs.items()):
            if now - at <= ADDRESS_SECONDS:
                break
            del self._proofs[known]
        if len(self._proofs) < allowance.per_address or proof in self._proofs:
            return 0.0
        return next(iter(self._proofs.values())) + ADDRESS_SECONDS - now

    def add(self, proof: bytes, now: float) -> float | None:
        """Count a guess; return what ``take_back`` needs, None if it was counted already."""
        if proof in self._proofs:
            return None
        before, self._last = self._last, now
        self._proofs[proof] = now
        return before

    def take_back(self, proof: bytes, before: float | None) -> None:
        """Strike a guess out."""
        at = self._proofs.pop(proof, None)
        if before is not None and at == self._last:
            self._last = before


class _Recent(Generic[K, V]):
    """A mapping of bounded size that forgets what was not used for longest."""

    def __init__(self, size: int, make: Callable[[], V]) -> None:
        self._size = size
        self._make = make
        self._known: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: K) -> V | None:
        """Return what is under a key, or None."""
        return self._known.get(key)

    def touch(self, key: K) -> V:
        """Return what is under a key; make it if it is not there."""
        found = self._known.get(key)
        return self.put(key, self._make() if found is None else found)

    def put(self, key: K, value: V) -> V:
        """Set what is under a key, and return it."""
        self._known[key] = value
        self._known.move_to_end(key)
        if len(self._known) > self._size:
            self._known.popitem(last=False)
        return value

    def discard(self, key: K) -> None:
        """Forget a key."""
        self._known.pop(key, None)


def _too_many(what: str, wait: float) -> TooManyAttempts:
    seconds = max(1, round(wait))
    again = f"{seconds} seconds" if seconds < 120 else f"{-(-seconds // 60)} minutes"
    return TooManyAttempts(
        f"cannot check this login: there were too many {what}. Try again in {again}", retry_after=seconds
    )
