"""When it is a fault to tell a peer that we have had a message which never came."""

from random import Random

import pytest

from holdfast.core.clock import SECOND, Instant
from holdfast.lab.sim.peer import Peer
from holdfast.lab.sim.peer_tunnel import Tunnel
from holdfast.lab.sim.peers import DAEMONS
from holdfast.lab.sim.unseen import Key, Unseen
from holdfast.records import Side


class Story:
    """A daemon that said two HELLOs at 0, when we died; we are back at `back_s`."""

    def __init__(self, daemon: str, back_s: int) -> None:
        self.peer: Peer = DAEMONS[daemon](Side.LNS, Random(1), b"", lambda data: None)
        self.tunnel = Tunnel(7)
        self.tunnel.remote, self.tunnel.up = 9, True
        self.peer.tunnels[7] = self.tunnel
        self.peer.hello(self.tunnel, 0)
        self.peer.hello(self.tunnel, 0)
        self.unseen = Unseen(DAEMONS[daemon], 0)
        self.until(back_s)
        self.unseen.began(back_s * SECOND, 0, {})

    def until(self, seconds: float) -> Instant:
        """The peer says again what it wants to be answered."""
        while (at := self.peer.deadline()) is not None and at <= seconds * SECOND:
            self.peer.timer(at)
        return int(seconds * SECOND)

    def key(self, ns: int) -> Key:
        """Of one of the two messages."""
        return 9, ns, self.tunnel.sent[ns].body

    def told(self, nr: int, seconds: float) -> list[int]:
        """We say that we have had all before `nr`: which of them we should not have."""
        return [sent.ns for sent in self.unseen.told(self.tunnel, nr, self.until(seconds))]


@pytest.mark.parametrize(
    ("daemon", "back_s", "told_s", "fault"),
    [
        ("xl2tpd", 5, 6, True),  # repeated at 7 s
        ("xl2tpd", 5, 14, True),  # at 15 s
        ("xl2tpd", 16, 18, False),  # never again
        ("l2tpns", 5, 22, False),  # at 31 s: that is too long to wait for
        ("accel-ppp", 5, 14, True),
        ("accel-ppp", 20, 30, False),
    ],
)
def test_what_would_be_repeated_in_time_must_be_waited_for(
    daemon: str, back_s: int, told_s: int, fault: bool
) -> None:
    assert Story(daemon, back_s).told(1, told_s) == ([0] if fault else [])


def test_a_copy_that_was_lost_excuses_in_the_life_in_which_it_was_lost() -> None:
    story = Story("accel-ppp", 5)
    story.unseen.failed(story.key(0))
    assert story.told(1, 14) == []
    story = Story("accel-ppp", 5)
    story.unseen.failed(story.key(0))
    story.unseen.began(8 * SECOND, 6 * SECOND, {})
    assert story.told(1, 14) == [0]


def test_a_life_too_short_to_leave_a_sign_of_itself_does_not_count() -> None:
    story = Story("accel-ppp", 20)
    story.unseen = Unseen(DAEMONS["accel-ppp"], 6 * SECOND)
    story.unseen.began(-60 * SECOND, None, {})
    story.unseen.began(20 * SECOND, 0, {})
    story.unseen.began(24 * SECOND, 22 * SECOND, {})
    assert story.told(1, 26) == [], "for all that we know we were away for 24 s"
    story = Story("accel-ppp", 20)
    story.unseen.began(-60 * SECOND, None, {})
    story.unseen.began(20 * SECOND, 0, {})
    story.unseen.began(24 * SECOND, 22 * SECOND, {})
    assert story.told(1, 30) == [0]


def test_what_came_or_was_decided_before_is_no_fault() -> None:
    story = Story("accel-ppp", 5)
    story.unseen.came(story.key(0))
    assert story.told(1, 8) == []
    story = Story("accel-ppp", 5)
    story.unseen.began(8 * SECOND, 6 * SECOND, {9: 1})
    assert story.told(1, 9) == []


@pytest.mark.parametrize("daemon", ["accel-ppp", "l2tpns"])
def test_what_lies_behind_an_unseen_message_is_acknowledged_later(daemon: str) -> None:
    assert Story(daemon, 3).told(2, 21) == [1]
    story = Story(daemon, 3)
    assert story.told(1, 21) == []
    assert story.told(2, 25) == []
    assert Story(daemon, 20).told(2, 31) == [], "its patience is spent"


def test_where_everything_is_repeated_by_itself_both_are_alike() -> None:
    assert Story("xl2tpd", 16).told(2, 18) == []
    assert Story("xl2tpd", 5).told(2, 14) == [0, 1]


def test_a_message_is_complained_of_once() -> None:
    story = Story("xl2tpd", 5)
    assert story.told(1, 6) == [0]
    assert story.told(1, 7) == []
