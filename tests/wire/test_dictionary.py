"""The dictionary and the message table against the tables of the requirements (l2tpv2 3 and 4, failover 4)."""

from typing import Any

import pytest

from holdfast.wire import codes
from holdfast.wire.avp import Avp
from holdfast.wire.dictionary import ACCESS_LINE, ENTRIES, MESSAGE_TYPE, RANDOM_VECTOR
from holdfast.wire.messages import SPECS, Msg

BY_KEY = {e.key: e for e in ENTRIES}

SET_UP = "SCCRQ SCCRP"
CALLS = "ICRQ ICRP OCRQ OCRP"

# type: (M, may be hidden, octets with the header: exact or the least, messages)
AVPS: dict[int, tuple[bool, bool, int, str]] = {
    1: (True, False, 8, "CDN STOPCCN"),
    2: (True, False, 8, SET_UP),
    3: (True, True, 10, SET_UP),
    4: (True, True, 10, SET_UP),
    5: (False, False, 14, "SCCRQ"),
    6: (False, True, 8, SET_UP),
    7: (True, False, 7, SET_UP),
    8: (False, True, 6, SET_UP),
    9: (True, True, 8, "SCCRQ SCCRP STOPCCN"),
    10: (True, False, 8, SET_UP),
    11: (True, True, 7, SET_UP),
    12: (True, False, 9, "CDN"),
    13: (True, True, 22, "SCCRP SCCCN"),
    14: (True, True, 8, CALLS + " CDN"),
    15: (True, True, 10, "ICRQ OCRQ"),
    16: (True, True, 10, "OCRQ"),
    17: (True, True, 10, "OCRQ"),
    18: (True, True, 10, "ICRQ OCRQ"),
    19: (True, True, 10, "ICCN OCCN OCRQ"),
    21: (True, True, 6, "ICRQ OCRQ"),
    22: (True, True, 6, "ICRQ"),
    23: (True, True, 6, "ICRQ OCRQ"),
    24: (True, True, 10, "ICCN OCCN"),
    25: (False, True, 10, "ICRQ OCRP"),
    26: (False, True, 6, "ICCN"),
    27: (False, True, 6, "ICCN"),
    28: (False, True, 6, "ICCN"),
    29: (False, True, 8, "ICCN"),
    30: (False, True, 6, "ICCN"),
    31: (False, True, 6, "ICCN"),
    32: (False, True, 8, "ICCN"),
    33: (False, True, 6, "ICCN"),
    34: (True, True, 32, "WEN"),
    35: (True, True, 16, "SLI"),
    37: (False, True, 6, "ICCN"),
    38: (False, True, 10, "ICCN OCCN"),
    39: (True, False, 6, "ICCN OCCN"),
    46: (False, True, 11, "CDN"),
    47: (False, True, 8, SET_UP),
    48: (False, True, 8, CALLS),
    76: (False, True, 12, SET_UP),
    77: (True, False, 16, "SCCRQ"),
    78: (False, True, 12, "SCCRP"),
    79: (True, True, 16, "FSQ FSR"),
    97: (False, True, 18, "CSUN CSURQ"),
    98: (False, True, 6, "ICRQ"),
}

VARIABLE = {1, 7, 8, 11, 12, 21, 22, 23, 26, 27, 28, 30, 31, 33, 37, 46}

LINE = set(range(129, 143))
"""Vendor 3561: rates and delays."""

# row: (message, mandatory AVPs, optional AVPs) without Message Type and Random Vector
MESSAGES: dict[str, tuple[Msg, set[int], set[int]]] = {
    "V2_50": (Msg.SCCRQ, {2, 7, 3, 9}, {4, 10, 11, 5, 6, 8, 47, 76, 77}),
    "V2_51": (Msg.SCCRP, {2, 3, 7, 9}, {4, 6, 8, 10, 11, 13, 47, 76, 78}),
    "V2_52": (Msg.SCCCN, set(), {13}),
    "V2_53": (Msg.STOPCCN, {9, 1}, set()),
    "V2_54": (Msg.HELLO, set(), set()),
    "V2_55": (Msg.OCRQ, {14, 15, 16, 17, 18, 19, 21}, {23, 48}),
    "V2_56": (Msg.OCRP, {14}, {25, 48}),
    "V2_57": (Msg.OCCN, {24, 19}, {38, 39}),
    "V2_58": (Msg.ICRQ, {14, 15}, {18, 25, 22, 21, 23, 48, 98}),
    "V2_59": (Msg.ICRP, {14}, {48}),
    "V2_60": (Msg.ICCN, {24, 19}, {*range(26, 34), 37, 38, 39}),
    "V2_61": (Msg.CDN, {1, 14}, {12, 46}),
    "V2_62": (Msg.WEN, {34}, set()),
    "V2_63": (Msg.SLI, {35}, set()),
    "V2_64_F_84": (Msg.FSQ, {79}, set()),
    "V2_64_F_85": (Msg.FSR, {79}, set()),
    "V2_65_CSUN": (Msg.CSUN, {97}, set()),
    "V2_65_CSURQ": (Msg.CSURQ, {97}, set()),
}


def test_keys_are_unique() -> None:
    assert len(BY_KEY) == len(ENTRIES)


def test_every_avp_is_in_the_table() -> None:
    assert {k for k in BY_KEY if k < 0x10000} == set(AVPS) | {MESSAGE_TYPE.key, RANDOM_VECTOR.key}
    assert {e.type for e in ENTRIES if e.vendor} == LINE | {1, 2, 144, 145, 254}


@pytest.mark.parametrize("kind", AVPS)
def test_avp_is_as_the_table_says(kind: int) -> None:
    avp: Avp[Any] = BY_KEY[kind]
    mandatory, hidable, octets, messages = AVPS[kind]
    assert (avp.mandatory, avp.hidable) == (mandatory, hidable)
    assert {m.name for m in avp.allowed} == set(messages.split())
    assert avp.sizes.start + 6 == octets
    assert avp.sizes.stop + 5 == (1023 if kind in VARIABLE else octets)


def test_V2_36_random_vector_may_be_anywhere_and_is_never_hidden() -> None:
    assert RANDOM_VECTOR.allowed == frozenset(Msg) and RANDOM_VECTOR.repeats
    assert RANDOM_VECTOR.mandatory and not RANDOM_VECTOR.hidable
    assert MESSAGE_TYPE.required == frozenset(Msg) and not MESSAGE_TYPE.hidable


def test_V2_40_never_hidden() -> None:
    assert {e.type for e in ENTRIES if not e.hidable} == {0, 1, 2, 5, 7, 10, 12, 36, 39, 77}


def test_V2_31_only_these_may_repeat() -> None:
    assert {e.type for e in ENTRIES if e.repeats} == {36, 46, 79, 97}


def test_access_line_avps_are_optional_in_icrq_alone() -> None:
    line = [e for e in ENTRIES if e.vendor]
    assert {e.vendor for e in line} == {ACCESS_LINE} == {3561}
    assert all(e.allowed == {Msg.ICRQ} and not e.required and not e.mandatory for e in line)


@pytest.mark.parametrize("row", MESSAGES)
def test_message_has_the_avps_of_its_row(row: str) -> None:
    msg, mandatory, optional = MESSAGES[row]
    spec = SPECS[msg]
    assert spec.required == mandatory
    ours = {k for k in spec.allowed if k < 0x10000}
    assert ours - {RANDOM_VECTOR.key} == mandatory | optional


def test_every_message_is_in_the_table() -> None:
    assert set(SPECS) == {m.value for m, _, _ in MESSAGES.values()} == set(Msg)


def test_scope_and_m_bit_of_messages() -> None:
    assert {m for m in Msg if not SPECS[m].session} == {1, 2, 3, 4, 6, 21, 22, 28, 29}
    assert {m for m in Msg if not SPECS[m].mandatory} == {21, 22, 28, 29}
    assert {m for m in Msg if SPECS[m].forgiving} == {4, 14, 21, 22}


def test_message_types() -> None:
    assert [m.value for m in Msg] == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 21, 22, 28, 29]


def test_V2_181_result_and_error_codes_are_the_table() -> None:
    assert [c.value for c in codes.StopCcn] == list(range(1, 9))
    assert [c.value for c in codes.Cdn] == list(range(1, 13))
    assert [c.value for c in codes.General] == list(range(10))
    assert [c.value for c in codes.PppCause] == list(range(21))
    assert codes.StopCcn(4) is codes.StopCcn.NOT_AUTHORISED
    assert codes.StopCcn(7) is codes.StopCcn.FSM_ERROR
    assert codes.Cdn(3) is codes.Cdn.ADMINISTRATIVE
    assert codes.Cdn(4) is codes.Cdn.NO_FACILITIES_TEMPORARY
    assert codes.Cdn(5) is codes.Cdn.NO_FACILITIES_PERMANENT
    assert codes.Cdn(10) is codes.Cdn.NOT_IN_TIME
    assert codes.General(5) is codes.General.INVALID_SESSION
    assert codes.General(8) is codes.General.UNKNOWN_MANDATORY
    assert codes.PppCause(8) is codes.PppCause.ECHO_TIMEOUT
    assert codes.PppCause(16) is codes.PppCause.AUTH_FAILED


@pytest.mark.parametrize(
    "kind", [codes.StopCcn, codes.Cdn, codes.General, codes.PppCause, codes.CauseDirection]
)
def test_every_code_says_what_it_means(kind: type[codes.StopCcn]) -> None:
    texts = [code.text for code in kind]
    assert all(texts) and len(set(texts)) == len(texts)


def test_peer_error_says_its_answer() -> None:
    error = codes.PeerError(codes.Cdn.GENERAL_ERROR, codes.General.INVALID_SESSION, "no such session")
    assert str(error) == "no such session (CDN 2/5)"
    assert str(codes.PeerError(codes.StopCcn.SHUTTING_DOWN)) == "requester is being shut down (StopCCN 6/0)"
