"""What excuses the end of a tunnel between nodes without RFC 4951, and what does not."""

from holdfast.daemon.effects import Log
from holdfast.lab.sim.overheard import Overheard
from holdfast.lab.sim.peer_wire import Kind, header, message
from holdfast.records import Side

HELLO = header(7, 0, 3, 3, message(Kind.HELLO))
UP = Log("tunnel.up", {"tunnel": 5, "peer_tunnel": 7})
DOWN = Log("tunnel.down", {"tunnel": 5, "cause": "timeout"})


def after(*restarts: int, heard_at: int | None = None, said: int = 10) -> int:
    """What is forgiven when the LAC gives up a HELLO, while the LNS restarted at these times."""
    talk = Overheard()
    assert not talk.forgiven(Side.LAC, UP)
    talk.sent(Side.LNS, HELLO, said)
    for at in restarts:
        if heard_at is not None and heard_at < at:
            talk.came(Side.LNS, HELLO, heard_at)
            heard_at = None
        talk.restarted(Side.LNS, at)
    if heard_at is not None:
        talk.came(Side.LNS, HELLO, heard_at)
    talk.sent(Side.LNS, header(7, 0, 3, 4, message(Kind.HELLO)), said + 15)
    talk.sent(Side.LNS, header(7, 0, 4, 4, b""), said + 16)
    return talk.forgiven(Side.LAC, DOWN)


def test_two_outages_into_which_every_copy_fell_excuse() -> None:
    assert after(15, 20) == 5
    assert after(15, 20, heard_at=16) == 5, "what was heard in the first life was lost with it"


def test_one_outage_does_not_excuse() -> None:
    assert not after(15)
    assert not after(5, 15), "the first was over before"


def test_a_message_that_was_heard_does_not_excuse() -> None:
    assert not after(15, 20, heard_at=21)


def test_another_end_than_a_time_out_does_not_excuse() -> None:
    talk = Overheard()
    talk.sent(Side.LNS, HELLO, 10)
    assert not talk.forgiven(Side.LAC, Log("tunnel.down", {"tunnel": 5, "cause": "peer"}))
