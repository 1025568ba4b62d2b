"""The option negotiation automaton of RFC 1661 section 4, as data: 10 states, 16 events, 160 cells.

The table below reads like the one in the RFC and is the only place that knows a transition. A cell is
`actions/state`; `-` is illegal. The footnotes of the RFC (restart, passive, crossed) are options that are not used.
Order of actions: a layer's going down comes first, the sending of packets follows.
"""

from enum import IntEnum
from typing import Final, NamedTuple


class State(IntEnum):
    """RFC 1661 4.2, with the RFC's own numbers."""

    INITIAL = 0
    STARTING = 1
    CLOSED = 2
    STOPPED = 3
    CLOSING = 4
    STOPPING = 5
    REQ_SENT = 6
    ACK_RCVD = 7
    ACK_SENT = 8
    OPENED = 9


class Event(IntEnum):
    """RFC 1661 4.3. `GOOD` and `BAD` are the RFC's + and -."""

    UP = 0
    DOWN = 1
    OPEN = 2
    CLOSE = 3
    TIMEOUT = 4
    TIMEOUT_LAST = 5
    REQUEST_GOOD = 6
    REQUEST_BAD = 7
    ACK = 8
    NAK = 9
    TERMINATE_REQUEST = 10
    TERMINATE_ACK = 11
    UNKNOWN_CODE = 12
    REJECT_GOOD = 13
    REJECT_BAD = 14
    ECHO = 15


class Action(IntEnum):
    """RFC 1661 4.4; the value is of no meaning."""

    TLU = 0
    """This-Layer-Up"""
    TLD = 1
    """This-Layer-Down"""
    TLS = 2
    """This-Layer-Started"""
    TLF = 3
    """This-Layer-Finished"""
    IRC = 4
    """Initialize-Restart-Count"""
    ZRC = 5
    """Zero-Restart-Count"""
    SCR = 6
    """Send-Configure-Request"""
    SCA = 7
    """Send-Configure-Ack"""
    SCN = 8
    """Send-Configure-Nak or -Reject"""
    STR = 9
    """Send-Terminate-Request"""
    STA = 10
    """Send-Terminate-Ack"""
    SCJ = 11
    """Send-Code-Reject"""
    SER = 12
    """Send-Echo-Reply"""


class Step(NamedTuple):
    """One cell: what to do, in order, and the state afterwards."""

    actions: tuple[Action, ...]
    state: State


_CELLS: Final = """
                   0      1          2          3              4      5      6          7          8          9
UP                 2      irc,scr/6  -          -              -      -      -          -          -          -
DOWN               -      -          0          tls/1          0      1      1          1          1          tld/1
OPEN               tls/1  1          irc,scr/6  3              5      5      6          7          8          9
CLOSE              0      tlf/0      2          2              4      4      irc,str/4  irc,str/4  irc,str/4  tld,irc,str/4
TIMEOUT            -      -          -          -              str/4  str/5  scr/6      scr/6      scr/8      -
TIMEOUT_LAST       -      -          -          -              tlf/2  tlf/3  tlf/3      tlf/3      tlf/3      -
REQUEST_GOOD       -      -          sta/2      irc,scr,sca/8  4      5      sca/8      sca,tlu/9  sca/8      tld,scr,sca/8
REQUEST_BAD        -      -          sta/2      irc,scr,scn/6  4      5      scn/6      scn/7      scn/6      tld,scr,scn/6
ACK                -      -          sta/2      sta/3          4      5      irc/7      scr/6      irc,tlu/9  tld,scr/6
NAK                -      -          sta/2      sta/3          4      5      irc,scr/6  scr/6      irc,scr/8  tld,scr/6
TERMINATE_REQUEST  -      -          sta/2      sta/3          sta/4  sta/5  sta/6      sta/6      sta/6      tld,zrc,sta/5
TERMINATE_ACK      -      -          2          3              tlf/2  tlf/3  6          6          8          tld,scr/6
UNKNOWN_CODE       -      -          scj/2      scj/3          scj/4  scj/5  scj/6      scj/7      scj/8      scj/9
REJECT_GOOD        -      -          2          3              4      5      6          6          8          9
REJECT_BAD         -      -          tlf/2      tlf/3          tlf/2  tlf/3  tlf/3      tlf/3      tlf/3      tld,irc,str/5
ECHO               -      -          2          3              4      5      6          7          8          ser/9
"""  # noqa: E501 - a table is read in its columns


def _cell(text: str) -> Step | None:
    if text == "-":
        return None
    *actions, state = text.replace("/", ",").split(",")
    return Step(tuple(Action[a.upper()] for a in actions), State(int(state)))


TABLE: Final[tuple[tuple[Step | None, ...], ...]] = tuple(
    tuple(_cell(cell) for cell in row.split()[1:]) for row in _CELLS.strip("\n").splitlines()[1:]
)
"""`TABLE[event][state]`; None where the RFC has a dash."""

TIMED: Final = frozenset(State(s) for s in State if TABLE[Event.TIMEOUT][s] is not None)
"""The states in which the Restart timer runs: those with TO events (RFC 1661 4.1)."""
