"""Whole dialogues: a server and a client against each other."""

from holdfast.core.auth import CHAP
from holdfast.ppp.effects import Established, NetworkUp, Transmit
from ppp.harness import IPCP, LCP, client, connect, head, kinds, of, server


def test_server_and_client_open_a_link() -> None:
    s, c = server(), client()
    s_said, c_said = connect(s, c)
    assert s.opened and c.opened
    [s_up], [c_up] = of(Established, s_said), of(Established, c_said)
    assert (s_up.record.local_ip, s_up.record.peer_ip) == ("100.64.0.1", "100.64.3.7")
    assert (c_up.record.local_ip, c_up.record.peer_ip) == ("100.64.3.7", "100.64.0.1")
    assert s_up.record.dns == c_up.record.dns == ("192.0.2.53", "192.0.2.54")
    assert s_up.record.auth_name == "alice"
    assert s_up.record.local_lcp == c_up.record.peer_lcp.__class__(
        mru=1460, magic=c_up.record.peer_lcp.magic, auth=CHAP
    )
    assert s_up.record.peer_lcp.magic == c_up.record.local_lcp.magic != 0
    assert len(of(NetworkUp, s_said)) == len(of(NetworkUp, c_said)) == 1
    assert kinds(s_said) == [
        (LCP, 1), (LCP, 2), (CHAP, 1), (CHAP, 3), (IPCP, 1), (IPCP, 3), (IPCP, 2),
    ]  # fmt: skip


def test_server_gives_out_the_record_before_its_first_ipcp_ack() -> None:
    s, c = server(), client()
    said, _ = connect(s, c)
    place = next(i for i, e in enumerate(said) if isinstance(e, Established))
    after = said[place + 1]
    assert isinstance(after, Transmit) and head(after.payload)[:2] == (IPCP, 2)
    assert (IPCP, 2) not in kinds(said[:place])
