"""IPCP with a peer made of hand-written packets: P-40 to P-46."""

from collections.abc import Callable
from itertools import chain, repeat
from random import Random

import msgspec
import pytest

from holdfast.core.auth import CHAP
from holdfast.ppp.effects import Cause, Established, Finished, NetworkDown, NetworkUp, Transmit
from holdfast.ppp.link import Link
from holdfast.ppp.state import Phase
from ppp.harness import (
    ACCEPT,
    CLIENT,
    IPCP,
    LCP,
    SERVER,
    at,
    body_of,
    client,
    connect,
    exchange,
    head,
    ipcp,
    kinds,
    lcp,
    of,
    opened,
    reached,
    sent,
    server,
)

ASSIGNED = bytes.fromhex("0306 64400307")
NONE = bytes.fromhex("0306 00000000")
DNS = bytes.fromhex("8106 c0000235 8306 c0000236")


def answered(options: bytes, link: Link | None = None) -> tuple[int, bytes]:
    """Code and options of what a server says to a Configure-Request."""
    link = link or reached(Phase.NETWORK)[0]
    *_, answer = sent(link.receive(ipcp(1, 1, options), 0))
    return head(answer)[1], body_of(answer)


def test_the_server_asks_for_its_own_address_only() -> None:
    _, said = reached(Phase.NETWORK)
    assert body_of(sent(said)[-1]) == bytes.fromhex("0306 64400001")


@pytest.mark.parametrize("wanted", ["0306 00000000", "0306 0a000001", "0304 0000", "0302"])
def test_P_40_none_or_a_wrong_address_gets_a_nak_with_the_assigned_one(wanted: str) -> None:
    assert answered(bytes.fromhex(wanted)) == (3, ASSIGNED)


def test_P_40_a_missing_address_is_appended_to_a_nak() -> None:
    assert answered(b"") == (3, ASSIGNED)
    assert answered(DNS) == (3, ASSIGNED)


def test_P_40_the_assigned_address_is_acknowledged() -> None:
    assert answered(ASSIGNED) == (2, ASSIGNED)


def test_P_41_P_43_the_old_address_option_van_jacobson_and_the_unknown_are_rejected() -> None:
    useless = bytes.fromhex("010a 64400307 64400001 0206 002d 0f01 8206 00000000 8406 00000000 9004 0001")
    assert answered(useless + NONE) == (4, useless)


def test_P_42_name_servers_are_given() -> None:
    assert answered(bytes.fromhex("8106 00000000 8306 00000000") + ASSIGNED) == (3, DNS)
    assert answered(ASSIGNED + DNS) == (2, ASSIGNED + DNS)


def test_P_42_name_servers_are_rejected_if_there_are_none() -> None:
    link, _ = reached(Phase.NETWORK, msgspec.structs.replace(SERVER, dns=("192.0.2.53",)))
    secondary = bytes.fromhex("8306 00000000")
    assert answered(ASSIGNED + secondary, link) == (4, secondary)


def test_P_5_after_max_failure_naks_the_option_is_rejected_and_nothing_more_appended() -> None:
    link, _ = reached(Phase.NETWORK)
    assert [answered(NONE, link)[0] for _ in range(6)] == [3] * 5 + [4]
    assert answered(b"", link) == (2, b"")


def test_the_record_comes_once_however_often_the_request_is_repeated() -> None:
    link, _ = reached(Phase.NETWORK)
    first = link.receive(ipcp(1, 1, ASSIGNED), 0)
    assert [type(e) for e in first] == [Established, Transmit]
    assert [type(e) for e in link.receive(ipcp(1, 2, ASSIGNED), 0)] == [Transmit]


def test_no_record_for_an_address_that_was_not_agreed() -> None:
    link, _ = reached(Phase.NETWORK)
    assert not of(Established, link.receive(ipcp(1, 1, NONE), 0))
    assert link.record is None


def test_a_server_keeps_to_its_address_and_can_keep_it_to_itself() -> None:
    link, said = reached(Phase.NETWORK)
    request = sent(said)[-1]
    [again] = sent(link.receive(ipcp(3, head(request)[2], NONE), 0))
    assert body_of(again) == body_of(request)
    [silent] = sent(link.receive(ipcp(4, head(again)[2], body_of(again)), 0))
    assert body_of(silent) == b""


def test_P_46_a_client_that_opens_ipcp_again_gets_the_same_address() -> None:
    s, _ = opened()
    said = s.receive(ipcp(1, 40, NONE), at(5))
    assert said[0] == NetworkDown() and kinds(said) == [(IPCP, 1), (IPCP, 3)]
    assert body_of(sent(said)[1]) == ASSIGNED
    assert s.receive(ipcp(2, head(sent(said)[0])[2], body_of(sent(said)[0])), at(5)) == []
    said = s.receive(ipcp(1, 41, ASSIGNED), at(5))
    assert said == [Transmit(ipcp(2, 41, ASSIGNED)), NetworkUp()], "the record stands as it is"


def test_P_46_a_request_for_the_address_in_opened_is_acknowledged_at_once() -> None:
    s, _ = opened()
    assert kinds(s.receive(ipcp(1, 40, ASSIGNED), at(5))) == [(IPCP, 1), (IPCP, 2)]


def test_ipcp_terminated_by_the_peer_ends_the_link() -> None:
    s, _ = opened()
    said = s.receive(ipcp(5, 8), at(5))
    assert said == [NetworkDown(), Transmit(ipcp(6, 8))]
    assert kinds(s.timer(at(8))) == [(LCP, 5)]


def test_ipcp_that_nobody_answers_ends_the_link() -> None:
    link, _ = reached(Phase.NETWORK)
    said = []
    while link.deadline is not None:
        said += link.timer(link.deadline)
    assert said[-1] == Finished(Cause.IPCP_FAILED)


def test_an_unknown_code_of_ipcp_is_rejected_by_ipcp() -> None:
    s, _ = opened()
    assert kinds(s.receive(ipcp(14, 1, b"abc"), at(1))) == [(IPCP, 7)]
    assert s.opened


# The client


def test_the_client_takes_what_it_is_given() -> None:
    _, c = opened()
    assert c.record is not None
    assert (c.record.local_ip, c.record.peer_ip) == ("100.64.3.7", "100.64.0.1")
    assert c.record.dns == ("192.0.2.53", "192.0.2.54")


def test_the_client_does_without_name_servers() -> None:
    s, c = server(msgspec.structs.replace(SERVER, dns=())), client()
    connect(s, c)
    assert c.opened and c.record is not None and c.record.dns == ()


def test_the_client_asks_for_the_address_that_it_had() -> None:
    s, c = opened()
    said = c.receive(ipcp(1, 3, bytes.fromhex("0306 64400001")), at(4))
    assert said[0] == NetworkDown()
    assert body_of(sent(said)[0]) == ASSIGNED + DNS
    s_said, c_said = exchange(s, c, [], said, at(4))
    assert s.opened and c.opened
    assert not of(Established, s_said + c_said), "nothing new to record"


def lead_client() -> tuple[Link, bytes]:
    """A client that has passed authentication, and its IPCP request."""
    c, s = client(), server()
    queue = [(0, e) for e in s.start(0)] + [(1, e) for e in c.start(0)]
    while queue:
        i, effect = queue.pop(0)
        if isinstance(effect, Transmit) and head(effect.payload)[:2] == (IPCP, 1) and i == 1:
            return c, effect.payload
        if isinstance(effect, Transmit) and head(effect.payload)[0] != IPCP:
            queue += [(1 - i, e) for e in (c, s)[i].receive(effect.payload, 0)]
        elif not isinstance(effect, Transmit):
            queue += [(0, e) for e in s.answer(ACCEPT, 0)]
    raise AssertionError("the client never asks for an address")


def test_a_client_without_an_address_does_not_open() -> None:
    c, request = lead_client()
    c.receive(ipcp(2, head(request)[2], body_of(request)), 0)
    said = c.receive(ipcp(1, 1, bytes.fromhex("0306 64400001")), 0)
    assert kinds(said) == [(IPCP, 2), (LCP, 5)] and not c.opened


def test_a_client_whose_address_is_rejected_gives_up() -> None:
    c, request = lead_client()
    said = c.receive(ipcp(4, head(request)[2], NONE), 0)
    assert kinds(said) == [(LCP, 5)]


def test_a_client_rejects_what_it_does_not_do() -> None:
    c, _ = lead_client()
    vj = bytes.fromhex("0206 002d 0f01")
    assert sent(c.receive(ipcp(1, 1, vj + bytes.fromhex("0306 64400001")), 0)) == [ipcp(4, 1, vj)]


def test_rejecting_one_option_twice_does_no_harm() -> None:
    c, request = lead_client()
    twice = body_of(request)[6:12] * 2
    assert kinds(c.receive(ipcp(4, head(request)[2], twice), 0)) == [(IPCP, 1)]


def test_a_pppd_like_client_gets_its_way() -> None:
    """Order of events as pppd does it: VJ and CCP first, IPV6CP beside."""
    link, said = reached(Phase.NETWORK)
    vj = bytes.fromhex("0206 002d 0f01")
    assert answered(vj + NONE + bytes.fromhex("8106 00000000 8306 00000000"), link) == (4, vj)
    assert kinds(link.receive(bytes.fromhex("ff03 80fd 0101000f1a0478001804780015032f"), 0)) == [(LCP, 8)]
    assert kinds(link.receive(bytes.fromhex("ff03 8057 0101000e010a0123456789abcdef"), 0)) == [(LCP, 8)]
    assert answered(NONE + bytes.fromhex("8106 00000000 8306 00000000"), link) == (3, ASSIGNED + DNS)
    assert link.receive(ipcp(2, head(sent(said)[-1])[2], body_of(sent(said)[-1])), 0) == []
    final = link.receive(ipcp(1, 4, ASSIGNED + DNS), 0)
    assert [type(e) for e in final] == [Established, Transmit, NetworkUp]


def test_any_seed_opens_with_the_same_result() -> None:
    for seed in range(50):
        s, c = Link(SERVER, Random(seed).randbytes), Link(CLIENT, Random(seed + 1000).randbytes)
        connect(s, c)
        assert s.opened and c.opened and s.record is not None and s.record.auth_method == CHAP


def test_P_11_two_ends_that_draw_the_same_magic_number_still_agree() -> None:
    def alike(seed: int) -> Callable[[int], bytes]:
        draw = chain([b"\1\2\3\4\5"], map(Random(seed).randbytes, repeat(16)))
        return lambda size: next(draw)[:size]

    s, c = Link(SERVER, alike(1)), Link(CLIENT, alike(2))
    said = connect(s, c)
    assert (LCP, 3) in kinds(said[0])
    assert s.opened and c.opened
    assert s.record is not None and s.record.local_lcp.magic != s.record.peer_lcp.magic


def test_lcp_echo_is_answered_while_ipcp_negotiates() -> None:
    link, _ = reached(Phase.NETWORK)
    assert kinds(link.receive(lcp(9, 1, bytes(4)), 0)) == [(LCP, 10)]
