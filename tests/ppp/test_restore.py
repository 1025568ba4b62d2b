"""A link that goes on after a crash: nothing is sent but answers and scheduled echoes (KT-1, K-4 to K-10)."""

from random import Random

import msgspec

from holdfast.core.auth import CHAP, PAP
from holdfast.ppp.config import LinkConfig
from holdfast.ppp.effects import Authenticate, Established, Finished, NetworkDown, Transmit
from holdfast.ppp.link import Link
from holdfast.ppp.packet import packet
from holdfast.records import PppRecord
from ppp.harness import (
    ACCEPT,
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
    kinds,
    lcp,
    of,
    opened,
    sent,
    server,
)


def restored(link: Link, config: LinkConfig, now: int = at(1000), seed: int = 77) -> Link:
    """What the next process makes of the record, after a journey through the journal."""
    stored = msgspec.msgpack.encode(link.record)
    return Link.restore(config, msgspec.msgpack.decode(stored, type=PppRecord), Random(seed).randbytes, now)


def test_KT_1_a_restored_link_is_opened_and_silent() -> None:
    s, c = opened()
    for old, config in ((s, SERVER), (c, CLIENT)):
        new = restored(old, config)
        assert new.opened and new.record == old.record
        assert new.deadline is not None and at(1000) < new.deadline <= at(1010)
        assert new.timer(at(1000)) == []


def test_first_echoes_are_spread_over_an_interval() -> None:
    s, _ = opened()
    firsts = [restored(s, SERVER, seed=i).deadline or 0 for i in range(200)]
    assert max(firsts) - min(firsts) > at(9)


def test_KT_1_echo_replies_and_requests_carry_the_old_magic() -> None:
    s, c = opened()
    assert s.record is not None and c.record is not None
    new = restored(s, SERVER)
    ours, theirs = s.record.local_lcp.magic.to_bytes(4, "big"), c.record.local_lcp.magic.to_bytes(4, "big")
    assert sent(new.receive(lcp(9, 3, theirs), at(1001))) == [lcp(10, 3, ours)]
    assert new.deadline is not None
    [echo] = sent(new.timer(new.deadline))
    assert head(echo)[:2] == (LCP, 9) and body_of(echo) == ours


def test_KT_1_both_ends_restored_go_on_for_hours() -> None:
    s, c = opened()
    s, c = restored(s, SERVER), restored(c, CLIENT, seed=78)
    now = at(1000)
    while now < at(10000):
        now = min(d for d in (s.deadline, c.deadline) if d is not None)
        said = exchange(s, c, s.timer(now), c.timer(now), now)
        assert {code for _, code in kinds(said[0] + said[1])} <= {9, 10}
    assert s.opened and c.opened


def test_KT_3_K_8_P_23_a_repeated_response_is_answered_from_the_record() -> None:
    s, c = server(), client()
    s_said, c_said = connect(s, c)
    [response] = [f for f in sent(c_said) if head(f)[:2] == (CHAP, 2)]
    [success] = [f for f in sent(s_said) if head(f)[:2] == (CHAP, 3)]
    new = restored(s, SERVER)
    assert new.receive(response, at(1001)) == [Transmit(success)]
    assert new.receive(packet(CHAP, 2, head(response)[2] ^ 1, body_of(response)), at(1001)) == []


def test_K_8_a_repeated_pap_request_is_answered_from_the_record() -> None:
    s, c = server(msgspec.structs.replace(SERVER, auth=(PAP,))), client()
    connect(s, c)
    new = restored(s, SERVER)
    request = packet(PAP, 1, 9, b"\x05alice\x01x")
    assert new.receive(request, at(1001)) == [Transmit(packet(PAP, 2, 9, b"\x07welcome"))]


def test_KT_6_P_46_a_client_that_opens_ipcp_again_gets_the_same_address() -> None:
    s, _ = opened()
    new = restored(s, SERVER)
    said = new.receive(ipcp(1, 40, bytes.fromhex("0306 00000000")), at(1001))
    assert said[0] == NetworkDown() and kinds(said) == [(IPCP, 1), (IPCP, 3)]
    assert body_of(sent(said)[1]) == bytes.fromhex("0306 64400307")


def test_P_3_a_client_that_reboots_after_the_restore_gets_the_same_address() -> None:
    s, _ = opened()
    new, fresh = restored(s, SERVER), client(seed=5)
    s_said, _ = exchange(new, fresh, [], fresh.start(at(1001)), at(1001))
    assert new.opened and fresh.opened
    assert [e.held for e in of(Authenticate, s_said)] == [ACCEPT.address]
    assert len(of(Established, s_said)) == 1, "magic and identifier are new"
    assert fresh.record is not None and fresh.record.local_ip == ACCEPT.address


def test_P_3_a_server_that_restarts_ppp_meets_a_restored_client() -> None:
    _, c = opened()
    new, fresh = restored(c, CLIENT), server(seed=9)
    _, c_said = exchange(fresh, new, fresh.start(at(1001)), [], at(1001))
    assert new.opened and fresh.opened
    assert c_said[0] == NetworkDown()


def test_P_24_a_restored_client_answers_a_challenge() -> None:
    _, c = opened()
    challenge = packet(CHAP, 1, 99, b"\x08" + b"12345678" + b"lns")
    assert kinds(restored(c, CLIENT).receive(challenge, at(1001))) == [(CHAP, 2)]


def test_a_stale_ack_of_before_the_crash_is_discarded() -> None:
    s, c = server(), client()
    _, c_said = connect(s, c)
    for seed in range(256):
        new = restored(s, SERVER, seed=seed)
        for frame in sent(c_said):
            if head(frame)[:2] in ((LCP, 2), (IPCP, 2)):
                assert new.receive(frame, at(1001)) == []


def test_a_crash_between_record_and_ack_leads_to_the_same_address() -> None:
    """The record was written, the Configure-Ack never sent: the client asks again."""
    s, c = server(), client()
    queue = [(0, e) for e in s.start(0)] + [(1, e) for e in c.start(0)]
    while s.record is None:
        i, effect = queue.pop(0)
        if isinstance(effect, Transmit):
            queue += [(1 - i, e) for e in (c, s)[i].receive(effect.payload, 0)]
        elif isinstance(effect, Authenticate):
            queue += [(0, e) for e in s.answer(ACCEPT, 0)]
    new = restored(s, SERVER, now=at(2))
    said = exchange(new, c, [], c.timer(at(3)), at(3))
    assert new.opened and c.opened
    assert c.record is not None and c.record.local_ip == ACCEPT.address
    assert not of(Finished, said[0] + said[1])


def test_a_restored_link_can_be_closed() -> None:
    s, c = opened()
    new = restored(s, SERVER)
    s_said, _ = exchange(new, c, new.close(at(1001)), [], at(1001))
    assert s_said[0] == NetworkDown() and isinstance(s_said[-1], Finished)


def test_P_23_no_challenge_after_a_crash_has_the_identifier_of_the_last_answer() -> None:
    s, _ = opened()
    assert s.record is not None
    for seed in range(300):
        new = restored(s, SERVER, seed=seed)
        new.receive(lcp(1, 1, MAGIC), at(1000))
        [request] = [f for f in sent(new.timer(at(1003))) if head(f)[:2] == (LCP, 1)]
        [challenge] = sent(new.receive(lcp(2, head(request)[2], body_of(request)), at(1003)))
        assert head(challenge)[2] != s.record.auth_id


def test_a_client_whose_server_restarted_in_an_authentication_begins_again() -> None:
    s, c = opened()
    [request, _] = sent(c.receive(lcp(1, 99, s_request(s)), at(1)))  # the server negotiates anew,
    c.receive(lcp(2, head(request)[2], body_of(request)), at(1))
    s = restored(s, SERVER)  # and dies before it challenges
    while not c.opened:
        assert c.deadline is not None and c.deadline < at(100)
        now = c.deadline
        _, said = exchange(s, c, [], c.timer(now), now)
        assert not of(Finished, said)
    assert s.opened


def s_request(link: Link) -> bytes:
    """The options of the Configure-Request that a link had its record from."""
    assert link.record is not None
    local = link.record.local_lcp
    return (
        b"\x01\x04"
        + local.mru.to_bytes(2, "big")
        + b"\x03\x05\xc2\x23\x05\x05\x06"
        + local.magic.to_bytes(4, "big")
    )


def test_K_7_a_negotiation_waits_while_the_tunnel_is_in_doubt() -> None:
    s, _ = opened()
    s.receive(lcp(1, 1, MAGIC), at(1))  # the peer negotiates anew, and is gone
    s.hold(True)
    for _ in range(100):
        assert s.deadline is not None
        now = s.deadline
        assert s.timer(now) == []
    s.hold(False)
    assert s.deadline is not None
    assert kinds(s.timer(s.deadline)) == [(LCP, 1)]
