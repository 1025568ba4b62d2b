"""LCP with a peer made of hand-written packets: P-2 to P-17."""

from random import Random

import msgspec
import pytest

from holdfast.core.auth import CHAP, PAP
from holdfast.ppp.config import LinkConfig
from holdfast.ppp.effects import Authenticate, Cause, Effect, Established, Finished, NetworkDown, Transmit
from holdfast.ppp.link import Link
from holdfast.ppp.packet import packet
from holdfast.ppp.state import Phase
from ppp.harness import (
    CLIENT,
    IPCP,
    LCP,
    MAGIC,
    SERVER,
    at,
    body_of,
    client,
    connect,
    exchange,
    head,
    ipcp,
    judge,
    kinds,
    lcp,
    lead,
    of,
    opened,
    reached,
    sent,
    server,
)


def begun(config: LinkConfig = SERVER) -> tuple[Link, bytes]:
    """A started link and its first Configure-Request."""
    link = Link(config, Random(5).randbytes)
    [request] = sent(link.start(0))
    return link, request


def answer_to(request: bytes, code: int, body: bytes | None = None) -> bytes:
    return lcp(code, head(request)[2], body_of(request) if body is None else body)


def run_out(link: Link) -> list[tuple[int, Effect]]:
    """All effects of a link that nobody answers, with their times."""
    said: list[tuple[int, Effect]] = []
    while link.deadline is not None:
        now = link.deadline
        said += [(now, e) for e in link.timer(now)]
    return said


# P-2


def test_P_2_restart_timer_and_max_configure_have_the_rfc_defaults() -> None:
    link, request = begun()
    said = run_out(link)
    assert [now for now, e in said if isinstance(e, Transmit)] == [at(3 * i) for i in range(1, 10)]
    assert {e.payload for _, e in said if isinstance(e, Transmit)} == {request}
    assert said[-1] == (at(30), Finished(Cause.LCP_FAILED))


def test_P_2_restart_timer_and_counters_are_configurable() -> None:
    link, _ = begun(msgspec.structs.replace(SERVER, restart=at(0.5), max_configure=3))
    assert [now for now, _ in run_out(link)] == [at(0.5), at(1), at(1.5)]


def test_P_2_max_terminate() -> None:
    s, _ = opened()
    s.close(at(100))
    assert [(now, type(e)) for now, e in run_out(s)] == [(at(103), Transmit), (at(106), Finished)]


def test_a_timer_that_comes_early_does_nothing() -> None:
    link, _ = begun()
    assert link.timer(at(2.9)) == []


# P-3


def test_P_3_configure_request_in_opened_takes_the_network_down_and_negotiates_anew() -> None:
    s, _ = opened()
    said = s.receive(lcp(1, 77, MAGIC), at(9))
    assert isinstance(said[0], NetworkDown)
    assert kinds(said) == [(LCP, 1), (LCP, 2)]
    assert not s.opened and s.phase is Phase.ESTABLISH


def test_P_3_a_client_that_reboots_gets_the_same_address() -> None:
    s, _ = opened()
    assert s.record is not None
    before = s.record
    fresh = client(seed=99)
    s_said, _ = exchange(s, fresh, [], fresh.start(at(50)), at(50))
    assert s.opened and fresh.opened
    assert [e.held for e in of(Authenticate, s_said)] == [before.peer_ip]
    assert s.record is not None and s.record.peer_ip == before.peer_ip
    assert fresh.record is not None and fresh.record.local_ip == before.peer_ip
    assert s.record.local_lcp.magic == before.local_lcp.magic, "ours continues"
    assert s.record.peer_lcp.magic != before.peer_lcp.magic


# P-4


@pytest.mark.parametrize("code", [2, 3, 4])
def test_P_4_an_answer_with_another_identifier_is_discarded(code: int) -> None:
    link, request = begun()
    wrong = lcp(code, head(request)[2] ^ 1, body_of(request))
    assert link.receive(wrong, at(1)) == []
    assert link.deadline == at(3)


def test_P_4_an_ack_with_other_options_is_discarded() -> None:
    link, request = begun()
    link.receive(lcp(1, 1, MAGIC), 0)
    assert link.receive(answer_to(request, 2, body_of(request)[:-1] + b"\0"), 0) == []
    assert kinds(link.receive(answer_to(request, 2), 0)) == [(CHAP, 1)]


def test_P_4_a_reject_of_what_was_not_asked_for_is_discarded() -> None:
    link, request = begun()
    assert link.receive(answer_to(request, 4, b"\x07\x02"), 0) == []


def test_P_4_an_ack_that_comes_twice_does_not_take_the_link_down() -> None:
    s, c = server(), client()
    _, c_said = exchange(s, c, s.start(0), c.start(0))
    acks = [f for f in sent(c_said) if head(f)[:2] in ((LCP, 2), (IPCP, 2))]
    assert len(acks) == 2
    for ack in acks:
        assert s.receive(ack, at(1)) == []
    assert s.opened


# P-5


def test_P_5_after_max_failure_naks_comes_a_reject() -> None:
    link, _ = begun()
    tiny = b"\x01\x04\x00\x10"
    answers = [kinds(link.receive(lcp(1, i, tiny), 0))[0] for i in range(7)]
    assert answers == [(LCP, 3)] * 5 + [(LCP, 4)] * 2


def test_P_5_naks_received_are_bounded_too() -> None:
    link, request = begun()
    for _ in range(10):
        [request] = sent(link.receive(answer_to(request, 3, b"\x01\x04\x05\x00"), 0))
    assert link.receive(answer_to(request, 3, b"\x01\x04\x05\x00"), 0) == [Finished(Cause.LCP_FAILED)]


# P-6


def test_P_6_terminate_request_is_acked_and_the_link_ends_one_restart_period_later() -> None:
    s, _ = opened()
    said = s.receive(lcp(5, 33), at(20))
    assert said == [NetworkDown(), Transmit(lcp(6, 33))]
    assert s.deadline == at(23)
    assert s.timer(at(23)) == [Finished(Cause.PEER_TERMINATED)]
    assert s.deadline is None


def test_P_6_a_repeated_terminate_request_is_acked_again() -> None:
    s, _ = opened()
    s.receive(lcp(5, 33), at(20))
    assert s.receive(lcp(5, 34), at(21)) == [Transmit(lcp(6, 34))]


def test_closing_ends_with_the_peers_terminate_ack() -> None:
    s, c = opened()
    s_said, c_said = exchange(s, c, s.close(at(5)), [], at(5))
    assert s_said[0] == NetworkDown() and s_said[-1] == Finished(Cause.CLOSED)
    assert c_said[0] == NetworkDown()
    assert c.timer(at(8)) == [Finished(Cause.PEER_TERMINATED)]


def test_down_is_the_end_without_another_word() -> None:
    s, _ = opened()
    assert s.down() == [NetworkDown()]
    assert s.phase is Phase.OVER and s.deadline is None
    assert s.receive(lcp(9, 1, bytes(4)), at(1)) == [] == s.close(at(1)) == s.down()


# P-7, P-8


def test_P_7_an_unknown_code_is_rejected_with_a_new_identifier_each() -> None:
    s, _ = opened()
    unknown = lcp(12, 9, b"MSRASV5.10")
    rejects = [sent(s.receive(unknown, at(1)))[0] for _ in range(3)]
    assert {head(r)[1] for r in rejects} == {7}
    assert len({head(r)[2] for r in rejects}) == 3
    assert all(body_of(r) == unknown[4:] for r in rejects)
    assert s.opened


def test_P_7_an_unknown_protocol_is_rejected_once_lcp_is_opened_and_the_peer_is_known() -> None:
    s, _ = opened()
    ipv6cp = packet(0x8057, 1, 1, b"\x01\x0a" + bytes(8))
    rejects = [sent(s.receive(ipv6cp, at(1)))[0] for _ in range(2)]
    assert [head(r)[:2] for r in rejects] == [(LCP, 8)] * 2
    assert head(rejects[0])[2] != head(rejects[1])[2]
    assert body_of(rejects[0]) == ipv6cp[2:]


@pytest.mark.parametrize("phase", [Phase.ESTABLISH, Phase.AUTHENTICATE])
def test_P_7_P_14_no_protocol_reject_in_earlier_phases(phase: Phase) -> None:
    s, _ = reached(phase)
    assert s.receive(packet(0x8057, 1, 1, b""), 0) == []


def test_P_7_rejects_are_cut_to_the_peers_mru() -> None:
    s, c = server(), client(msgspec.structs.replace(CLIENT, mru=200))
    connect(s, c)
    [code_reject] = sent(s.receive(lcp(12, 9, bytes(1000)), at(1)))
    [protocol_reject] = sent(s.receive(packet(0x80FD, 1, 1, bytes(1000)), at(1)))
    assert len(code_reject) - 4 == len(protocol_reject) - 4 == 200


def test_P_8_protocol_reject_of_an_unspoken_protocol_changes_nothing() -> None:
    s, _ = opened()
    assert s.receive(lcp(8, 1, b"\x80\x57\x01\x01\x00\x04"), at(1)) == []
    assert s.receive(lcp(8, 2, b"\xc0\x21\x01\x01\x00\x04"), at(1)) == []
    assert s.opened


def test_P_8_protocol_reject_of_ipcp_ends_the_link_in_order() -> None:
    s, _ = opened()
    said = s.receive(lcp(8, 1, b"\x80\x21\x01\x01\x00\x04"), at(1))
    assert kinds(said) == [(LCP, 5)]
    assert s.receive(lcp(6, head(sent(said)[0])[2]), at(1))[-1] == Finished(
        Cause.IPCP_FAILED, "the peer does not speak IPCP"
    )


def test_code_reject_of_a_code_that_we_need_ends_the_link() -> None:
    s, _ = opened()
    said = s.receive(lcp(7, 1, b"\x01\x01\x00\x04"), at(1))
    assert said[0] == NetworkDown() and kinds(said) == [(LCP, 5)]


def test_code_reject_of_an_echo_is_taken_in_silence() -> None:
    s, _ = opened()
    assert s.receive(lcp(7, 1, b"\x09\x01\x00\x08"), at(1)) == []
    assert s.opened


# P-9, P-10, P-11: see also test_echo.py


def test_P_11_a_magic_number_like_ours_gets_a_nak_with_another() -> None:
    link, request = begun()
    ours = body_of(request)[-6:]
    [nak] = sent(link.receive(lcp(1, 1, ours), 0))
    assert head(nak)[:2] == (LCP, 3)
    assert body_of(nak)[:2] == b"\x05\x06" and body_of(nak) != ours


def test_P_11_a_magic_number_is_never_rejected() -> None:
    link, request = begun()
    ours = body_of(request)[-6:]
    assert {kinds(link.receive(lcp(1, i, ours), 0))[0] for i in range(20)} == {(LCP, 3)}


def test_P_11_a_magic_number_of_zero_gets_a_nak() -> None:
    link, _ = begun()
    assert kinds(link.receive(lcp(1, 1, b"\x05\x06\0\0\0\0"), 0)) == [(LCP, 3)]


def test_P_10_P_11_a_looped_line_is_found_in_the_negotiation() -> None:
    link = client()
    line = link.start(0)
    for _ in range(100):
        effect = line.pop(0)
        if isinstance(effect, Finished):
            assert effect.cause is Cause.LOOPBACK
            return
        if isinstance(effect, Transmit):
            line += link.receive(effect.payload, 0)
    raise AssertionError("the loop was not found")


# P-12, P-13, P-16, P-17


def test_P_12_our_mru_is_asked_for_and_the_peers_default_is_1500() -> None:
    s, c = (
        server(msgspec.structs.replace(SERVER, mru=1420)),
        client(msgspec.structs.replace(CLIENT, mru=1500)),
    )
    connect(s, c)
    assert s.record is not None
    assert (s.record.local_lcp.mru, s.record.peer_lcp.mru) == (1420, 1500)


@pytest.mark.parametrize(("hint", "taken"), [(1400, 1400), (1500, 1460), (10, 1460)])
def test_P_12_a_hint_to_a_smaller_mru_is_taken(hint: int, taken: int) -> None:
    link, request = begun()
    [again] = sent(link.receive(answer_to(request, 3, b"\x01\x04" + hint.to_bytes(2, "big")), 0))
    assert body_of(again)[:4] == b"\x01\x04" + taken.to_bytes(2, "big")


def test_P_13_we_ask_for_mru_authentication_and_magic_only() -> None:
    _, request = begun()
    assert body_of(request)[:9] == bytes.fromhex("010405b4 0305c22305")
    assert len(body_of(request)) == 15 and body_of(request)[9:11] == b"\x05\x06"


def test_what_serves_no_purpose_over_l2tp_is_rejected() -> None:
    """MRRU and endpoint discriminator as l2tpns sends them, quality, callback, FCS alternatives."""
    link, _ = begun(CLIENT)
    useless = (
        b"\x11\x04\x05\xdc"
        + b"\x13\x09\x03"
        + bytes(6)
        + b"\x04\x04\xc0\x25"
        + b"\x0d\x03\x06"
        + b"\x09\x03\x01"
    )
    asked = b"\x01\x04\x05\xdc" + MAGIC + useless
    [reject] = sent(link.receive(lcp(1, 1, asked), 0))
    assert reject == lcp(4, 1, useless)
    assert sent(link.receive(lcp(1, 2, asked[:10]), 0)) == [lcp(2, 2, asked[:10])]


def test_P_16_P_17_accm_and_compression_of_the_peer_are_agreed_to_and_recorded() -> None:
    link, request = begun()
    options = b"\x02\x06\x00\x0a\x00\x00" + MAGIC + b"\x07\x02" + b"\x08\x02"
    lead(link, Phase.NETWORK, [Transmit(request)], options)
    [up] = of(Established, link.receive(ipcp(1, 1, bytes.fromhex("0306 64400307")), 0))
    peer = up.record.peer_lcp
    assert (peer.accm, peer.pfc, peer.acfc, peer.magic) == (0x000A0000, True, True, 0xAABBCCDD)


def test_P_16_both_forms_are_received() -> None:
    s, _ = opened()
    whole = lcp(9, 1, bytes(4))
    want = sent(s.receive(whole, at(1)))
    assert want and sent(s.receive(whole[2:], at(1))) == want


# P-14


def test_P_14_ipcp_during_authentication_is_discarded() -> None:
    s, _ = reached(Phase.AUTHENTICATE)
    assert s.receive(ipcp(1, 1, b"\x03\x06" + bytes(4)), 0) == []


def test_P_14_nothing_but_lcp_is_heard_before_lcp_is_opened() -> None:
    link, _ = begun()
    for frame in (
        ipcp(1, 1),
        packet(CHAP, 2, 1, bytes(20)),
        packet(PAP, 1, 1, bytes(8)),
        packet(0x21, 69, 0),
    ):
        assert link.receive(frame, 0) == []


# P-15


def test_P_15_the_best_protocol_first_the_next_on_a_nak() -> None:
    link, request = begun()
    assert b"\x03\x05\xc2\x23\x05" in request and b"\xc0\x23" not in request
    [again] = sent(link.receive(answer_to(request, 3, b"\x03\x04\xc0\x23"), 0))
    assert b"\x03\x04\xc0\x23" in again and b"\xc2\x23" not in again
    assert head(again)[2] != head(request)[2]


def test_P_15_a_hint_to_what_we_do_not_do_brings_the_next_of_ours() -> None:
    link, request = begun()
    [again] = sent(link.receive(answer_to(request, 3, b"\x03\x05\xc2\x23\x81"), 0))
    assert b"\x03\x04\xc0\x23" in again


def test_P_15_a_peer_that_refuses_every_protocol_is_refused() -> None:
    link, request = begun()
    [again] = sent(link.receive(answer_to(request, 3, b"\x03\x04\xc0\x23"), 0))
    assert link.receive(answer_to(again, 3, b"\x03\x04\xc0\x27"), 0) == [Finished(Cause.AUTH_REFUSED)]


def test_P_15_a_peer_that_rejects_authentication_is_refused() -> None:
    link, request = begun()
    said = link.receive(answer_to(request, 4, b"\x03\x05\xc2\x23\x05"), 0)
    assert said == [Finished(Cause.AUTH_REFUSED)]


def test_P_15_a_peer_that_wants_us_to_authenticate_to_it_is_rejected_by_a_server() -> None:
    link, _ = begun()
    option = b"\x03\x05\xc2\x23\x05"
    assert sent(link.receive(lcp(1, 1, option), 0)) == [lcp(4, 1, option)]


@pytest.mark.parametrize("asked", ["0305c22381", "0304c227", "0305c22380", "0303c2"])
def test_P_15_a_client_names_what_it_can_do(asked: str) -> None:
    link, _ = begun(CLIENT)
    assert sent(link.receive(lcp(1, 1, bytes.fromhex(asked)), 0)) == [lcp(3, 1, b"\x03\x05\xc2\x23\x05")]


# The rest


def test_mru_and_magic_can_be_done_without() -> None:
    link, request = begun()
    [again] = sent(link.receive(answer_to(request, 4, b"\x01\x04\x05\xb4" + body_of(request)[-6:]), 0))
    assert body_of(again) == b"\x03\x05\xc2\x23\x05"


def test_a_request_with_a_broken_option_is_discarded() -> None:
    link, _ = begun()
    for options in (b"\x01", b"\x01\x00", b"\x01\x01", b"\x01\x05\x05\xdc", MAGIC + b"\x02\x06\x00"):
        assert link.receive(lcp(1, 1, options), 0) == []


def test_padding_is_ignored() -> None:
    link, _ = begun()
    assert sent(link.receive(lcp(1, 1, MAGIC) + bytes(20), 0)) == [lcp(2, 1, MAGIC)]


def test_a_peer_that_draws_the_negotiation_out_is_given_up() -> None:
    link, request = begun()
    now = 0
    for _ in range(100):
        said = link.receive(answer_to(request, 2), now)
        assert link.deadline is not None
        now = link.deadline
        said = link.timer(now)
        if Finished(Cause.TIMEOUT) in said:
            assert now == at(120)
            return
        [request] = sent(said)
    raise AssertionError("it went on for ever")


def test_lost_packets_are_made_good_by_the_restart_timer() -> None:
    for lost in range(30):
        s, c = server(), client()
        queue = [(0, e) for e in s.start(0)] + [(1, e) for e in c.start(0)]
        links, now, count = (s, c), 0, 0
        while not (s.opened and c.opened):
            if not queue:
                now = min(d for d in (s.deadline, c.deadline) if d is not None)
                queue = [(0, e) for e in s.timer(now)] + [(1, e) for e in c.timer(now)]
                continue
            i, effect = queue.pop(0)
            assert not isinstance(effect, Finished)
            if isinstance(effect, Transmit):
                count += 1
                if count != lost:
                    queue += [(1 - i, e) for e in links[1 - i].receive(effect.payload, now)]
            elif isinstance(effect, Authenticate):
                queue += [(i, e) for e in links[i].answer(judge(effect), now)]
        assert now <= at(6), lost
