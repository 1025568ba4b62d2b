"""PAP and CHAP, as a server and as a client: P-20 to P-24."""

from hashlib import md5

import msgspec
import pytest

from holdfast.core.auth import CHAP, PAP, Accept, Credentials, Reject
from holdfast.ppp.authentication import chap_response
from holdfast.ppp.effects import Authenticate, Cause, Finished, Transmit
from holdfast.ppp.packet import packet
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
    head,
    kinds,
    lcp,
    of,
    opened,
    reached,
    response_to,
    sent,
    server,
)

PAP_ONLY = msgspec.structs.replace(SERVER, auth=(PAP,))


def pap_request(identifier: int, name: bytes, password: bytes) -> bytes:
    return packet(PAP, 1, identifier, bytes((len(name),)) + name + bytes((len(password),)) + password)


# PAP


def test_P_20_pap_opens_a_link() -> None:
    s, c = server(PAP_ONLY), client()
    s_said, _ = connect(s, c)
    assert s.opened and c.opened
    assert of(Authenticate, s_said) == [
        Authenticate(Credentials(method=PAP, name="alice", password=b"open sesame"))
    ]
    assert s.record is not None and s.record.auth_method == PAP


def test_P_20_the_answer_has_the_identifier_of_the_request() -> None:
    link, _ = reached(Phase.AUTHENTICATE, PAP_ONLY)
    link.receive(pap_request(200, b"alice", b"x"), 0)
    assert sent(link.answer(ACCEPT, 0))[0] == packet(PAP, 2, 200, b"\x07welcome")


def test_P_20_a_repeated_request_gets_the_same_answer() -> None:
    link, _ = reached(Phase.AUTHENTICATE, PAP_ONLY)
    link.receive(pap_request(200, b"alice", b"x"), 0)
    link.answer(ACCEPT, 0)
    assert link.receive(pap_request(201, b"alice", b"x"), 0) == [
        Transmit(packet(PAP, 2, 201, b"\x07welcome"))
    ]


def test_P_20_a_wrong_password_gets_a_nak_and_the_link_ends() -> None:
    s, c = server(PAP_ONLY), client(msgspec.structs.replace(CLIENT, secret=b"guess"))
    s_said, c_said = connect(s, c)
    assert (PAP, 3) in kinds(s_said)
    assert of(Finished, s_said) == [Finished(Cause.AUTH_FAILED, "no")]
    assert of(Finished, c_said) == [Finished(Cause.AUTH_FAILED, "no")]


@pytest.mark.parametrize(
    "body", [b"", b"\x05ali", b"\x05alice", b"\x05alice\x05x", b"\xfe" + bytes(254) + b"\0"]
)
def test_P_20_a_malformed_request_is_discarded(body: bytes) -> None:
    link, _ = reached(Phase.AUTHENTICATE, PAP_ONLY)
    assert link.receive(packet(PAP, 1, 1, body), 0) == []


# CHAP


def test_P_21_every_challenge_has_a_new_identifier_and_a_new_value() -> None:
    link, said = reached(Phase.AUTHENTICATE)
    challenges = sent(said)
    for _ in range(9):
        assert link.deadline is not None
        challenges += sent(link.timer(link.deadline))
    assert {head(c)[:2] for c in challenges} == {(CHAP, 1)}
    assert len({head(c)[2] for c in challenges}) == len({body_of(c) for c in challenges}) == 10
    assert all(body_of(c)[0] == 16 and body_of(c)[17:] == b"lns" for c in challenges)


def test_P_21_a_peer_that_never_answers_is_given_up() -> None:
    link, _ = reached(Phase.AUTHENTICATE)
    for _ in range(10):
        assert link.deadline is not None
        said = link.timer(link.deadline)
    assert kinds(said) == [(LCP, 5)]
    link.timer(at(33))
    assert link.timer(at(36)) == [Finished(Cause.AUTH_TIMEOUT)]


def test_P_22_the_response_is_md5_over_identifier_secret_challenge() -> None:
    assert chap_response(7, b"secret", b"challenge") == md5(b"\x07secretchallenge").digest()


def test_P_22_success_has_the_identifier_of_the_response() -> None:
    link, [challenge] = reached(Phase.AUTHENTICATE)
    assert isinstance(challenge, Transmit)
    [question] = of(Authenticate, link.receive(response_to(challenge.payload), 0))
    asked = question.credentials
    assert (asked.name, asked.chap_id) == ("alice", head(challenge.payload)[2])
    assert asked.challenge == body_of(challenge.payload)[1:17]
    said = link.answer(ACCEPT, 0)
    assert sent(said)[0] == packet(CHAP, 3, asked.chap_id, b"welcome")
    assert kinds(said) == [(CHAP, 3), (IPCP, 1)]


def test_P_22_failure_has_the_identifier_of_the_response_and_the_link_ends() -> None:
    link, [challenge] = reached(Phase.AUTHENTICATE)
    assert isinstance(challenge, Transmit)
    link.receive(response_to(challenge.payload), 0)
    said = link.answer(Reject("no"), 0)
    assert sent(said)[0] == packet(CHAP, 4, head(challenge.payload)[2], b"no")
    assert kinds(said) == [(CHAP, 4), (LCP, 5)]
    assert link.receive(lcp(6, head(sent(said)[1])[2]), 0) == [Finished(Cause.AUTH_FAILED, "no")]


def test_a_refusal_for_want_of_an_address_is_told_apart() -> None:
    link, [challenge] = reached(Phase.AUTHENTICATE)
    assert isinstance(challenge, Transmit)
    link.receive(response_to(challenge.payload), 0)
    said = link.answer(Reject("full", temporary=True), 0)
    assert link.receive(lcp(6, head(sent(said)[1])[2]), 0) == [Finished(Cause.NO_RESOURCES, "full")]


def test_P_22_a_response_to_an_older_challenge_is_discarded() -> None:
    link, [old] = reached(Phase.AUTHENTICATE)
    assert isinstance(old, Transmit)
    [new] = link.timer(at(3))
    assert isinstance(new, Transmit)
    assert link.receive(response_to(old.payload), at(3)) == []
    assert of(Authenticate, link.receive(response_to(new.payload), at(3)))


@pytest.mark.parametrize(
    "body", [b"", b"\x10", b"\x10" + bytes(15), b"\x0f" + bytes(20), b"\x10" + bytes(16 + 254)]
)
def test_P_22_a_malformed_response_is_discarded(body: bytes) -> None:
    link, [challenge] = reached(Phase.AUTHENTICATE)
    assert isinstance(challenge, Transmit)
    assert link.receive(packet(CHAP, 2, head(challenge.payload)[2], body), 0) == []


def test_P_23_a_repeated_response_gets_the_same_code_without_another_question() -> None:
    link, [challenge] = reached(Phase.AUTHENTICATE)
    assert isinstance(challenge, Transmit)
    response = response_to(challenge.payload)
    link.receive(response, 0)
    [success, _] = link.answer(ACCEPT, 0)
    assert link.receive(response, at(1)) == [success]


def test_P_23_also_when_the_network_is_up() -> None:
    s, c = server(), client()
    s_said, c_said = connect(s, c)
    [response] = [f for f in sent(c_said) if head(f)[:2] == (CHAP, 2)]
    [success] = [f for f in sent(s_said) if head(f)[:2] == (CHAP, 3)]
    assert s.receive(response, at(5)) == [Transmit(success)]
    assert s.receive(packet(CHAP, 2, head(response)[2] ^ 1, body_of(response)), at(5)) == []
    assert s.opened


def test_one_question_at_a_time_however_many_responses_come() -> None:
    link, [challenge] = reached(Phase.AUTHENTICATE)
    assert isinstance(challenge, Transmit)
    said = [e for _ in range(100) for e in link.receive(response_to(challenge.payload), 0)]
    assert len(of(Authenticate, said)) == len(said) == 1


def test_no_new_challenge_while_aaa_thinks() -> None:
    link, [challenge] = reached(Phase.AUTHENTICATE)
    assert isinstance(challenge, Transmit)
    link.receive(response_to(challenge.payload), 0)
    assert link.timer(at(3)) == [] == link.timer(at(6))
    assert kinds(link.answer(ACCEPT, at(7))) == [(CHAP, 3), (IPCP, 1)]


def test_an_answer_that_belongs_to_an_older_negotiation_opens_nothing() -> None:
    link, [challenge] = reached(Phase.AUTHENTICATE)
    assert isinstance(challenge, Transmit)
    link.receive(response_to(challenge.payload), 0)
    restarted = link.receive(lcp(1, 9), at(1))
    assert kinds(restarted) == [(LCP, 1), (LCP, 2)]
    again = link.receive(lcp(2, head(sent(restarted)[0])[2], body_of(sent(restarted)[0])), at(1))
    assert kinds(again) == [(CHAP, 1)]
    assert link.receive(response_to(sent(again)[0]), at(1)) == [], "AAA is still at the first"
    assert link.answer(ACCEPT, at(1)) == [] and link.phase is Phase.AUTHENTICATE
    [question] = of(Authenticate, link.receive(response_to(sent(again)[0]), at(2)))
    assert question.held == ACCEPT.address, "the first answer's address is kept"


def test_an_answer_that_nobody_asked_for_is_ignored() -> None:
    link, _ = reached(Phase.AUTHENTICATE)
    assert link.answer(ACCEPT, 0) == []


def test_another_user_on_the_same_session_is_refused() -> None:
    s, _ = opened()
    said = s.receive(lcp(1, 9, b"\x05\x06\1\2\3\4"), at(1))
    [request] = [f for f in sent(said) if head(f)[1] == 1]
    [challenge] = sent(s.receive(lcp(2, head(request)[2], body_of(request)), at(1)))
    assert kinds(s.receive(response_to(challenge, name=b"bob"), at(1))) == [(CHAP, 4), (LCP, 5)]


def test_names_that_are_no_utf_8_can_be_recorded() -> None:
    link, said = reached(Phase.AUTHENTICATE)
    [question] = of(Authenticate, link.receive(response_to(sent(said)[0], name=b"al\xffice"), 0))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(question.credentials.name)) == "al\ufffdice"


def test_long_messages_are_cut() -> None:
    link, [challenge] = reached(Phase.AUTHENTICATE)
    assert isinstance(challenge, Transmit)
    link.receive(response_to(challenge.payload), 0)
    [success, _] = sent(link.answer(Accept(user="alice", address="100.64.0.9", message="x" * 2000), 0))
    assert len(body_of(success)) == 255


# The client


def test_P_22_a_client_repeats_its_response_when_the_success_is_lost() -> None:
    s, c = server(), client()
    queue = [(0, e) for e in s.start(0)] + [(1, e) for e in c.start(0)]
    said: list[bytes] = []
    while not said:
        i, effect = queue.pop(0)
        assert isinstance(effect, Transmit)
        if head(effect.payload)[:2] == (CHAP, 2):
            said.append(effect.payload)
        queue += [(1 - i, e) for e in (c, s)[i].receive(effect.payload, 0)]
    assert sent(c.timer(at(3))) == said == sent(c.timer(at(6)))


def test_P_24_a_client_answers_a_challenge_at_any_time() -> None:
    _, c = opened()
    challenge = packet(CHAP, 1, 99, b"\x08" + b"12345678" + b"lns")
    want = packet(CHAP, 2, 99, b"\x10" + chap_response(99, b"open sesame", b"12345678") + b"alice")
    assert c.receive(challenge, at(9)) == [Transmit(want)]
    assert c.receive(packet(CHAP, 1, 99, b"\x09" + b"12345678"), at(9)) == []


def test_a_client_does_not_answer_a_challenge_that_was_not_agreed() -> None:
    s, c = server(PAP_ONLY), client()
    connect(s, c)
    assert c.receive(packet(CHAP, 1, 99, b"\x08" + b"12345678"), at(9)) == []


def test_a_client_takes_no_success_before_it_has_said_anything() -> None:
    c, s = client(), server()
    request = sent(s.start(0))[0]
    mine = sent(c.start(0))[0]
    c.receive(request, 0)
    c.receive(lcp(2, head(mine)[2], body_of(mine)), 0)
    assert c.phase is Phase.AUTHENTICATE
    for identifier in range(256):
        assert c.receive(packet(CHAP, 3, identifier), 0) == []


def test_a_client_that_is_never_challenged_gives_up() -> None:
    c, s = client(), server()
    mine = sent(c.start(0))[0]
    c.receive(sent(s.start(0))[0], 0)
    c.receive(lcp(2, head(mine)[2], body_of(mine)), 0)
    said = []
    while c.deadline is not None:
        said += c.timer(c.deadline)
    assert said[-1] == Finished(Cause.AUTH_TIMEOUT)


def test_a_client_opens_a_link_on_which_nobody_asks_who_it_is() -> None:
    s, c = server(msgspec.structs.replace(SERVER, auth=())), client()
    question = Authenticate(Credentials(method=0, name=""))
    queue = [(0, e) for e in s.start(0)] + [(1, e) for e in c.start(0)]
    while queue:
        i, effect = queue.pop(0)
        if isinstance(effect, Transmit):
            queue += [(1 - i, e) for e in (c, s)[i].receive(effect.payload, 0)]
        elif isinstance(effect, Authenticate):
            assert effect == question
            queue += [(0, e) for e in s.answer(ACCEPT, 0)]
    assert s.opened and c.opened
    assert s.record is not None and s.record.auth_method == 0


def test_the_helpers_lead_where_they_say() -> None:
    link, said = reached(Phase.NETWORK)
    assert link.phase is Phase.NETWORK and kinds(said) == [(CHAP, 3), (IPCP, 1)]
