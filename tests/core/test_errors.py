"""Errors carry what they are about as values."""

from holdfast.core.errors import HoldfastError, LocalError, Malformed


def test_malformed_says_where_and_how_much() -> None:
    e = Malformed("AVP length", 12, 6, 4)
    assert (e.what, e.offset, e.need, e.have) == ("AVP length", 12, 6, 4)
    assert str(e) == "AVP length at offset 12: needs 6, has 4"


def test_a_local_error_is_no_fault_of_the_peer() -> None:
    assert issubclass(LocalError, HoldfastError)
    assert not issubclass(LocalError, Malformed)
