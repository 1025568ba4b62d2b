"""Local users: who gets in, and with which address."""

from hashlib import md5

import pytest

from holdfast.aaa.authenticator import Authenticator
from holdfast.aaa.local import DENIED, IN_USE, NO_ADDRESS, LocalAuthenticator, User, dotted, number
from holdfast.aaa.pool import AddressTaken
from holdfast.core.auth import CHAP, PAP, Accept, Credentials
from holdfast.records import AaaRecord, LcpRecord, PppRecord, SessionRecord, Side

USERS = (
    User(name="alice", secret=b"sesame"),
    User(name="bob", secret=b"hunter2", pool="second"),
    User(name="carol", secret=b"swordfish", address="100.64.0.2"),
)
POOLS = (
    ("first", number("100.64.0.1"), number("100.64.0.3")),
    ("second", number("100.65.0.1"), number("100.65.0.1")),
)


def local() -> LocalAuthenticator:
    return LocalAuthenticator(USERS, POOLS)


def pap(name: str, password: bytes) -> Credentials:
    return Credentials(method=PAP, name=name, password=password)


def chap(name: str, secret: bytes) -> Credentials:
    response = md5(b"\x07" + secret + b"challenge").digest()
    return Credentials(method=CHAP, name=name, chap_id=7, challenge=b"challenge", response=response)


def session(address: str, pool: str) -> SessionRecord:
    ppp = PppRecord(
        local_lcp=LcpRecord(),
        peer_lcp=LcpRecord(),
        auth_method=CHAP,
        auth_name="alice",
        auth_id=1,
        auth_message="",
        local_ip="",
        peer_ip=address,
    )
    return SessionRecord(
        tunnel_id=1,
        local_id=1,
        peer_id=1,
        side=Side.LNS,
        call_serial=1,
        established_utc_us=1,
        ppp=ppp,
        aaa=AaaRecord(user="alice", pool=pool),
    )


def test_it_is_an_authenticator() -> None:
    aaa: Authenticator = local()
    assert aaa.authenticate(pap("alice", b"sesame")) is not None


@pytest.mark.parametrize("credentials", [pap("alice", b"sesame"), chap("alice", b"sesame")])
def test_the_right_secret_gets_an_address_of_the_first_pool(credentials: Credentials) -> None:
    assert local().authenticate(credentials) == Accept(user="alice", address="100.64.0.1", pool="first")


@pytest.mark.parametrize(
    "credentials",
    [
        pap("alice", b"guess"),
        pap("alice", b""),
        pap("nobody", b"sesame"),
        pap("nobody", b"\x00 nobody"),
        chap("alice", b"guess"),
        chap("nobody", b"\x00 nobody"),
        Credentials(method=CHAP, name="alice"),
        Credentials(method=PAP, name="alice"),
        Credentials(method=0, name="alice", password=b"sesame"),
    ],
)
def test_anything_else_is_denied_alike(credentials: Credentials) -> None:
    assert local().authenticate(credentials) == DENIED


def test_a_user_may_have_a_pool_of_its_own_and_an_empty_pool_is_a_temporary_matter() -> None:
    aaa = local()
    assert aaa.authenticate(pap("bob", b"hunter2")) == Accept(user="bob", address="100.65.0.1", pool="second")
    assert aaa.authenticate(pap("bob", b"hunter2")) == NO_ADDRESS
    assert NO_ADDRESS.temporary
    aaa.release("second", "100.65.0.1")
    assert isinstance(aaa.authenticate(pap("bob", b"hunter2")), Accept)


def test_a_fixed_address_belongs_to_one_session_and_never_to_a_pool() -> None:
    aaa = local()
    assert aaa.authenticate(pap("carol", b"swordfish")) == Accept(user="carol", address="100.64.0.2")
    assert aaa.authenticate(pap("carol", b"swordfish")) == IN_USE
    others = [aaa.authenticate(pap("alice", b"sesame")) for _ in range(3)]
    assert [a.address for a in others if isinstance(a, Accept)] == ["100.64.0.1", "100.64.0.3"]
    aaa.release("", "100.64.0.2")
    assert isinstance(aaa.authenticate(pap("carol", b"swordfish")), Accept)


def test_P_46_an_address_that_is_held_is_repeated_and_no_other_taken() -> None:
    aaa = local()
    first = aaa.authenticate(pap("alice", b"sesame"))
    assert aaa.authenticate(pap("alice", b"sesame"), held="100.64.0.1") == first
    assert aaa.authenticate(pap("alice", b"guess"), held="100.64.0.1") == DENIED
    fixed = aaa.authenticate(pap("carol", b"swordfish"))
    assert aaa.authenticate(pap("carol", b"swordfish"), held="100.64.0.2") == fixed
    second = aaa.authenticate(pap("alice", b"sesame"))
    assert isinstance(second, Accept) and second.address == "100.64.0.3"


def test_K_12_recorded_addresses_are_reserved() -> None:
    aaa = local()
    aaa.reserve(session("100.64.0.1", "first"))
    got = aaa.authenticate(pap("alice", b"sesame"))
    assert isinstance(got, Accept) and got.address == "100.64.0.3"
    aaa.reserve(session("100.64.0.2", ""))
    assert aaa.authenticate(pap("carol", b"swordfish")) == IN_USE


def test_K_12_two_records_cannot_have_one_address() -> None:
    aaa = local()
    for address, pool in (("100.64.0.1", "first"), ("198.51.100.7", "gone")):
        aaa.reserve(session(address, pool))
        with pytest.raises(AddressTaken):
            aaa.reserve(session(address, pool))


def test_K_12_a_record_whose_pool_is_gone_keeps_its_address() -> None:
    aaa = local()
    assert aaa.reserve(session("198.51.100.7", "gone")) == ""
    aaa.release("", "198.51.100.7")


@pytest.mark.parametrize("recorded", ["gone", "second", ""])
def test_K_12_an_address_counts_in_the_pool_that_has_it_now(recorded: str) -> None:
    aaa = local()
    pool = aaa.reserve(session("100.64.0.1", recorded))
    assert pool == "first"
    alices = [aaa.authenticate(pap("alice", b"sesame")) for _ in range(2)]
    assert alices == [Accept(user="alice", address="100.64.0.3", pool="first"), NO_ADDRESS]
    aaa.release(pool, "100.64.0.1")
    assert aaa.authenticate(pap("alice", b"sesame")) == Accept(
        user="alice", address="100.64.0.1", pool="first"
    )


def test_K_12_an_address_that_has_become_a_users_own_is_still_its_sessions() -> None:
    aaa = local()
    assert aaa.reserve(session("100.64.0.2", "first")) == ""
    assert aaa.authenticate(pap("carol", b"swordfish")) == IN_USE


def test_addresses_as_numbers() -> None:
    assert number("100.64.0.1") == 0x64400001
    assert dotted(0x64400001) == "100.64.0.1"
