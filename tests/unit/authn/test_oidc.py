"""OpenID Connect: what a hostile browser, token or network can do, and what a provider that fails does."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from joserfc.jwk import OctKey

from tests.oidc_double import AUDIENCE, CLIENT, OidcDouble, authenticator_for, new_key, oidc_double
from tidegate.authn.base import NotAdmitted, Presented, Waiting
from tidegate.authn.oidc import OidcAuthenticator, OidcSettings
from tidegate.authn.oidc_provider import REFETCH_SECONDS, RETRY_SECONDS
from tidegate.model.errors import Busy, Invalid, LoginFailed

BACK = "https://gateway.test/login/oidc/return"


class Clock:
    """The provider's time, and what a test adds."""

    ahead = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return time.time() + self.ahead


@pytest.fixture
async def provider() -> AsyncIterator[OidcDouble]:
    """A provider."""
    async with oidc_double() as double:
        yield double


@pytest.fixture
def clock() -> Clock:
    """Time that can be moved on."""
    return Clock()


@pytest.fixture
async def oidc(provider: OidcDouble, clock: Clock, tmp_path: Path) -> AsyncIterator[OidcAuthenticator]:
    """An authenticator for it."""
    made = authenticator_for(provider, tmp_path, clock)
    await made.start()
    yield made
    await made.close()


async def begin(oidc: OidcAuthenticator) -> tuple[dict[str, str], str]:
    """Return what the provider is asked in the browser, and what the browser keeps."""
    begun = await oidc.begin(BACK)
    return dict(parse_qsl(urlsplit(begun.url).query)), begun.secret


async def log_in(oidc: OidcAuthenticator, provider: OidcDouble, **changed: str) -> Any:
    """Log in; what the browser brings back may be changed."""
    asked, secret = await begin(oidc)
    return await oidc.complete(BACK, secret, {"code": provider.agree(asked), "state": asked["state"], **changed})


async def who(oidc: OidcAuthenticator, token: str) -> str | None:
    """Return whose access token that is."""
    accepted = await oidc.authenticate(Presented("bearer", token))
    return accepted.principal.name if accepted else None


# -- browsers ----------------------------------------------------------------------------------------------------------


async def test_a_browser_logs_in(oidc: OidcAuthenticator, provider: OidcDouble) -> None:
    """By code, state, nonce and PKCE; groups come along, and nobody is an administrator by what a provider says."""
    provider.claims |= {"groups": ["hydro", 7, "staff"], "admin": True}

    principal = await log_in(oidc, provider)

    assert (principal.name, principal.groups, principal.admin) == ("alice", {"hydro", "staff"}, False)


async def test_what_the_token_leaves_out_is_asked_for(oidc: OidcAuthenticator, provider: OidcDouble) -> None:
    """At the endpoint for it, if the answer is about the same subject."""
    provider.metadata["userinfo_endpoint"] = f"{provider.issuer}/userinfo"
    oidc._provider._metadata_until = 0
    provider.claims["groups"] = ["hydro"]
    provider.alter = {"groups": None}
    assert (await log_in(oidc, provider)).groups == {"hydro"}

    provider.alter = {"groups": None, "sub": "another"}
    assert (await log_in(oidc, provider)).groups == set()


@pytest.mark.parametrize(
    "brought",
    [
        {"state": "x"},
        {"state": "é"},
        {"state": ""},
        {"code": "guessed"},
        {"code": ""},
        {"iss": "https://evil.example.org"},
        {"code": "", "error": "access_denied"},
    ],
)
async def test_what_a_browser_should_not_bring_back(
    oidc: OidcAuthenticator, provider: OidcDouble, brought: dict[str, str]
) -> None:
    """Another state, code or sender is no login."""
    with pytest.raises(LoginFailed):
        await log_in(oidc, provider, **brought)


async def test_a_provider_that_signs_its_answers_must(oidc: OidcAuthenticator, provider: OidcDouble) -> None:
    """Where it says that it names itself in each answer, one without the name is another's (mix-up, RFC 9207)."""
    provider.metadata["authorization_response_iss_parameter_supported"] = True
    oidc._provider._metadata_until = 0

    with pytest.raises(LoginFailed, match="another provider"):
        await log_in(oidc, provider)
    assert (await log_in(oidc, provider, iss=provider.issuer)).name == "alice"


async def test_a_code_counts_once_and_in_its_own_browser(oidc: OidcAuthenticator, provider: OidcDouble) -> None:
    """Neither again, nor in a browser that began another login, whose cookie has another verifier."""
    asked, secret = await begin(oidc)
    other, others_secret = await begin(oidc)
    code = provider.agree(asked)

    with pytest.raises(LoginFailed):
        await oidc.complete(BACK, others_secret, {"code": code, "state": asked["state"]})
    with pytest.raises(LoginFailed):
        await oidc.complete(BACK, others_secret, {"code": code, "state": other["state"]})
    code = provider.agree(asked)
    assert (await oidc.complete(BACK, secret, {"code": code, "state": asked["state"]})).name == "alice"
    with pytest.raises(LoginFailed):
        await oidc.complete(BACK, secret, {"code": code, "state": asked["state"]})


@pytest.mark.parametrize(
    "alter",
    [
        {"nonce": "of another login"},
        {"nonce": None},
        {"iss": "https://evil.example.org"},
        {"aud": "another client"},
        {"aud": [CLIENT, "another client"], "azp": "another client"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"exp": "soon"},
        {"sub": None},
        {"nbf": 4e9},
    ],
    ids=str,
)
async def test_an_id_token_that_is_not_of_this_login(
    oidc: OidcAuthenticator, provider: OidcDouble, alter: dict[str, Any]
) -> None:
    """Signed by the provider as it is, it opens nothing."""
    provider.alter = alter

    with pytest.raises(LoginFailed, match="something else"):
        await log_in(oidc, provider)


@pytest.mark.parametrize("name", [None, "", 7, "a:b", "a\nb", "-rf", "x" * 300, ["alice"]])
async def test_a_name_that_is_none(oidc: OidcAuthenticator, provider: OidcDouble, name: Any) -> None:
    """The claim is named, for the administrator."""
    provider.claims["preferred_username"] = name

    with pytest.raises(LoginFailed, match="preferred_username"):
        await log_in(oidc, provider)


@pytest.mark.parametrize(
    ("verified", "name"), [(True, "a@b.org"), ("true", "a@b.org"), (False, ""), (1, ""), (None, "")]
)
async def test_an_address_counts_where_it_is_verified(
    provider: OidcDouble, tmp_path: Path, verified: Any, name: str
) -> None:
    """Who may type in any address would be anybody; what the ID token leaves out is asked for."""
    provider.metadata["userinfo_endpoint"] = f"{provider.issuer}/userinfo"
    provider.claims |= {"email": "a@b.org", "groups": [], "email_verified": verified}
    provider.alter = {"email_verified": None}
    oidc = authenticator_for(provider, tmp_path, username_claim="email")
    await oidc.start()
    if name:
        assert (await log_in(oidc, provider)).name == name
    else:
        with pytest.raises(LoginFailed, match="verified your email"):
            await log_in(oidc, provider)
        with pytest.raises(NotAdmitted, match="verified your email"):
            await who(oidc, provider.access_token())
    await oidc.close()


async def test_who_is_in_none_of_the_groups(provider: OidcDouble, tmp_path: Path) -> None:
    """Is told which there are."""
    oidc = authenticator_for(provider, tmp_path, allowed_groups=["hydro"])
    await oidc.start()
    with pytest.raises(LoginFailed, match="members of hydro"):
        await log_in(oidc, provider)
    with pytest.raises(NotAdmitted, match="members of hydro"):
        await who(oidc, provider.access_token())
    assert await who(oidc, provider.access_token(groups=["hydro"])) == "alice"
    await oidc.close()


# -- programs ----------------------------------------------------------------------------------------------------------


async def test_a_program_bears_an_access_token(oidc: OidcAuthenticator, provider: OidcDouble) -> None:
    """What is made with it lives no longer than it."""
    accepted = await oidc.authenticate(Presented("bearer", provider.access_token(exp=int(time.time()) + 99)))

    assert accepted is not None
    assert accepted.principal.name == "alice"
    assert accepted.principal.until == pytest.approx(time.time() + 99, abs=5)


async def test_tokens_that_are_not_for_the_gateway(oidc: OidcAuthenticator, provider: OidcDouble) -> None:
    """Another issuer, audience, time; an ID token; a signature by somebody else; a name for none."""
    wrong = [
        provider.access_token(iss="https://evil.example.org"),
        provider.access_token(aud=CLIENT),
        provider.access_token(aud=[]),
        provider.access_token(aud={"x": AUDIENCE}),
        provider.access_token(exp=int(time.time()) - 60),
        provider.access_token(nbf=int(time.time()) + 60),
        provider.access_token(nonce="n"),
        provider.access_token(new_key("first")),
        provider.access_token()[:-4] + "AAAA",
    ]

    assert [await who(oidc, token) for token in wrong] == [None] * len(wrong)


async def test_signatures_that_are_none(oidc: OidcAuthenticator, provider: OidcDouble) -> None:
    """``none``, in every spelling; and an HMAC whose secret is the provider's public key, which everybody has."""
    _, body, signature = provider.access_token().split(".")
    public = provider.keys[0]
    signed = f"{_part({'alg': 'HS256', 'kid': 'first'})}.{body}"
    mac = hmac.digest(public.as_pem(private=False), signed.encode(), "sha256")
    forged = [f"{_part({'alg': alg, 'kid': 'first'})}.{body}.{signature}" for alg in ("none", "None", "", None, 7)]
    forged += [f"{_part({'alg': 'none'})}.{body}."]
    forged += [f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"]
    forged += [f"{_part({'alg': 'RS256', 'kid': 'first', 'jwk': public.as_dict(private=False)})}.{body}.{signature}"]

    assert [await who(oidc, token) for token in forged] == [None] * len(forged)


def _part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


async def test_a_shared_secret_among_the_keys_signs_nothing(oidc: OidcAuthenticator, provider: OidcDouble) -> None:
    """Whatever a provider publishes: a key that everybody can read is no secret."""
    shared = OctKey.generate_key(256, {"kid": "shared"})
    provider.keys.append(shared)  # type: ignore[arg-type]

    claims = {"iss": provider.issuer, "aud": AUDIENCE, "exp": time.time() + 60, **provider.claims}
    assert await who(oidc, provider.sign(shared, "HS256", **claims)) is None
    assert await who(oidc, provider.access_token()) == "alice"


async def test_keys_change_and_made_up_names_cost_little(
    oidc: OidcAuthenticator, provider: OidcDouble, clock: Clock
) -> None:
    """A new key is fetched when a token names it; a flood of made-up names asks no more than once in a while."""
    assert await who(oidc, provider.access_token()) == "alice"
    provider.keys = [new_key("second")]
    clock.ahead = REFETCH_SECONDS
    assert await who(oidc, provider.access_token()) == "alice"

    before = provider.asked.count("/jwks")
    clock.ahead += REFETCH_SECONDS
    stranger = new_key("x")
    for number in range(50):
        token = provider.sign(
            stranger, header={"kid": f"made up {number}"}, iss=provider.issuer, aud=AUDIENCE, sub="1", exp=4e9
        )
        assert await who(oidc, token) is None
    assert provider.asked.count("/jwks") == before + 1


async def test_a_token_of_another_issuer_asks_nobody(oidc: OidcAuthenticator, provider: OidcDouble) -> None:
    """It is not this provider's to judge."""
    provider.asked.clear()

    assert await who(oidc, provider.access_token(iss="https://elsewhere.example.org")) is None
    assert provider.asked == []


async def test_without_an_audience_no_access_token_counts(provider: OidcDouble, tmp_path: Path) -> None:
    """Programs use personal tokens then."""
    oidc = authenticator_for(provider, tmp_path, audience=None)
    await oidc.start()
    assert await who(oidc, provider.access_token()) is None
    await oidc.close()


# -- terminals ---------------------------------------------------------------------------------------------------------


async def test_a_terminal_waits_and_gets_in_once(oidc: OidcAuthenticator, provider: OidcDouble) -> None:
    """Pending, too soon, then who it is; the code is worth nothing after that."""
    begun = await oidc.begin_device()
    assert begun is not None
    assert (begun.user_code, begun.seconds, begun.interval) == ("ABCD-EFGH", 60, 1)
    assert begun.secret not in repr(begun)

    assert await oidc.complete_device(begun.secret) == Waiting()
    provider.devices[begun.secret] = "slow_down"
    assert await oidc.complete_device(begun.secret) == Waiting(slower=True)
    provider.devices[begun.secret] = ""
    found = await oidc.complete_device(begun.secret)
    assert not isinstance(found, Waiting)
    assert found.name == "alice"
    with pytest.raises(LoginFailed):
        await oidc.complete_device(begun.secret)


async def test_a_provider_without_device_flow(provider: OidcDouble, tmp_path: Path) -> None:
    """Offers none."""
    provider.metadata["device_authorization_endpoint"] = None
    oidc = authenticator_for(provider, tmp_path)
    await oidc.start()
    assert await oidc.begin_device() is None
    await oidc.close()


# -- a provider that fails ---------------------------------------------------------------------------------------------


async def test_silence_is_no_refusal(provider: OidcDouble, clock: Clock, tmp_path: Path) -> None:
    """The gateway starts; everybody is told to come back; and then it works."""
    provider.status = 503
    oidc = authenticator_for(provider, tmp_path, clock)
    await oidc.start()
    for attempt in (oidc.begin(BACK), oidc.begin_device(), who(oidc, provider.access_token())):
        with pytest.raises(Busy):
            await attempt

    provider.status = 200
    assert (await log_in(oidc, provider)).name == "alice"
    provider.status = 500
    with pytest.raises(Busy):
        await log_in(oidc, provider)
    await oidc.close()


async def test_known_keys_outlive_the_providers_silence(
    oidc: OidcAuthenticator, provider: OidcDouble, clock: Clock
) -> None:
    """Programs go on; a key that is not known cannot be judged."""
    assert await who(oidc, provider.access_token()) == "alice"
    provider.status = 503
    clock.ahead = 2 * 3600

    token = provider.access_token(exp=int(clock()) + 60)
    assert await who(oidc, token) == "alice"
    with pytest.raises(Busy):
        await who(oidc, provider.access_token(new_key("new"), exp=int(clock()) + 60))


async def test_who_does_not_answer_is_not_asked_all_the_time(tmp_path: Path, clock: Clock) -> None:
    """Port 1 of loopback is nobody's."""
    settings = OidcSettings(issuer="http://127.0.0.1:1", client_id=CLIENT, audience=AUDIENCE)
    oidc = OidcAuthenticator(tmp_path, settings, clock)
    await oidc.start()
    clock.ahead = RETRY_SECONDS
    with pytest.raises(Busy) as first:
        await oidc.begin(BACK)
    with pytest.raises(Busy) as second:
        await oidc.begin(BACK)
    assert "Cannot connect" in str(first.value.detail)
    assert "a moment ago" in str(second.value.detail)
    await oidc.close()


async def test_answers_are_read_to_their_end_within_reason(provider: OidcDouble, tmp_path: Path) -> None:
    """A large one comes in many pieces; one without an end is not read for ever."""
    provider.metadata["comment"] = "x" * 900_000
    oidc = authenticator_for(provider, tmp_path)
    await oidc.start()
    assert (await log_in(oidc, provider)).name == "alice"
    await oidc.close()

    provider.metadata["comment"] = "x" * 2_000_000
    oidc = authenticator_for(provider, tmp_path)
    await oidc.start()
    with pytest.raises(Busy) as silence:
        await oidc.begin(BACK)
    assert "a moment ago" in str(silence.value.detail)
    await oidc.close()


async def test_another_issuer_is_no_provider(provider: OidcDouble, tmp_path: Path) -> None:
    """The gateway does not start with what calls itself otherwise."""
    provider.metadata["issuer"] = "https://evil.example.org"

    with pytest.raises(Invalid, match=r"evil\.example\.org"):
        await authenticator_for(provider, tmp_path).start()


@pytest.mark.parametrize("address", ["http://login.example.org/token", "ftp://x/", 7, None])
async def test_no_secret_goes_where_others_read_it(oidc: OidcAuthenticator, provider: OidcDouble, address: Any) -> None:
    """An endpoint without https is none."""
    provider.metadata["token_endpoint"] = address
    oidc._provider._metadata_until = 0

    with pytest.raises(Invalid, match="token_endpoint"):
        await log_in(oidc, provider)


@pytest.mark.parametrize(
    "issuer", ["http://login.example.org", "login.example.org", "https://u:p@x.org", "https://x/?q"]
)
def test_issuers_that_cannot_be(issuer: str) -> None:
    """Https, except on this machine."""
    with pytest.raises(ValueError, match="provider's URL"):
        OidcSettings(issuer=issuer, client_id=CLIENT)


def test_only_asymmetric_algorithms_can_be_allowed() -> None:
    """The client's secret is no key."""
    with pytest.raises(ValueError, match="algorithms"):
        OidcSettings(issuer="https://x.org", client_id=CLIENT, algorithms=("HS256",))  # type: ignore[arg-type]
