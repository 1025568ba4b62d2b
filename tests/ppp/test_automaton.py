"""The table of RFC 1661 4.1, typed from the RFC in its own two halves, against the one that runs."""

import pytest

from holdfast.ppp.automaton import TABLE, TIMED, Action, Event, State

FIRST_HALF = """
 Up   |    2     irc,scr/6     -         -         -         -
 Down |    -         -         0       tls/1       0         1
 Open |  tls/1       1     irc,scr/6     3r        5r        5r
 Close|    0       tlf/0       2         2         4         4
  TO+ |    -         -         -         -       str/4     str/5
  TO- |    -         -         -         -       tlf/2     tlf/3
 RCR+ |    -         -       sta/2 irc,scr,sca/8   4         5
 RCR- |    -         -       sta/2 irc,scr,scn/6   4         5
 RCA  |    -         -       sta/2     sta/3       4         5
 RCN  |    -         -       sta/2     sta/3       4         5
 RTR  |    -         -       sta/2     sta/3     sta/4     sta/5
 RTA  |    -         -         2         3       tlf/2     tlf/3
 RUC  |    -         -       scj/2     scj/3     scj/4     scj/5
 RXJ+ |    -         -         2         3         4         5
 RXJ- |    -         -       tlf/2     tlf/3     tlf/2     tlf/3
 RXR  |    -         -         2         3         4         5
"""

SECOND_HALF = """
 Up   |    -         -         -           -
 Down |    1         1         1         tld/1
 Open |    6         7         8           9r
 Close|irc,str/4 irc,str/4 irc,str/4 tld,irc,str/4
  TO+ |  scr/6     scr/6     scr/8         -
  TO- |  tlf/3p    tlf/3p    tlf/3p        -
 RCR+ |  sca/8   sca,tlu/9   sca/8   tld,scr,sca/8
 RCR- |  scn/6     scn/7     scn/6   tld,scr,scn/6
 RCA  |  irc/7     scr/6x  irc,tlu/9   tld,scr/6x
 RCN  |irc,scr/6   scr/6x  irc,scr/8   tld,scr/6x
 RTR  |  sta/6     sta/6     sta/6   tld,zrc,sta/5
 RTA  |    6         6         8       tld,scr/6
 RUC  |  scj/6     scj/7     scj/8       scj/9
 RXJ+ |    6         6         8           9
 RXJ- |  tlf/3     tlf/3     tlf/3   tld,irc,str/5
 RXR  |    6         7         8         ser/9
"""

EVENTS = {
    "Up": Event.UP,
    "Down": Event.DOWN,
    "Open": Event.OPEN,
    "Close": Event.CLOSE,
    "TO+": Event.TIMEOUT,
    "TO-": Event.TIMEOUT_LAST,
    "RCR+": Event.REQUEST_GOOD,
    "RCR-": Event.REQUEST_BAD,
    "RCA": Event.ACK,
    "RCN": Event.NAK,
    "RTR": Event.TERMINATE_REQUEST,
    "RTA": Event.TERMINATE_ACK,
    "RUC": Event.UNKNOWN_CODE,
    "RXJ+": Event.REJECT_GOOD,
    "RXJ-": Event.REJECT_BAD,
    "RXR": Event.ECHO,
}


def cells() -> list[tuple[Event, State, str]]:
    found = []
    for half, offset in ((FIRST_HALF, 0), (SECOND_HALF, 6)):
        for line in half.strip("\n").splitlines():
            name, _, row = line.partition("|")
            found += [(EVENTS[name.strip()], State(offset + i), cell) for i, cell in enumerate(row.split())]
    return found


def test_P_1_the_table_has_160_cells() -> None:
    assert len(cells()) == len({(event, state) for event, state, _ in cells()}) == 160
    assert len(TABLE) == 16 and all(len(row) == 10 for row in TABLE)


@pytest.mark.parametrize(("event", "state", "cell"), cells())
def test_P_1_cell_of_the_table(event: Event, state: State, cell: str) -> None:
    step = TABLE[event][state]
    if cell == "-":
        assert step is None
        return
    assert step is not None
    actions, _, target = cell.rpartition("/")
    assert step.state == int(target.rstrip("rpx"))
    assert [a.name.lower() for a in step.actions] == (actions.split(",") if actions else [])


def test_P_1_the_restart_timer_runs_where_there_are_timeouts() -> None:
    assert sorted(TIMED) == [4, 5, 6, 7, 8]


def test_P_1_a_layer_tells_of_one_thing_per_step() -> None:
    told = {Action.TLU, Action.TLD, Action.TLS, Action.TLF}
    assert all(len(told & set(step.actions)) <= 1 for row in TABLE for step in row if step)
