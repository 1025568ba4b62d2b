"""Control messages, for everyone who sends or receives them: one place to import from."""

from holdfast.wire.avp import EncodedAvp, Hiding, RawAvp
from holdfast.wire.codes import Msg
from holdfast.wire.decoding import decode
from holdfast.wire.encoding import encode
from holdfast.wire.message import Fault, Message
from holdfast.wire.table import MAX_FSS, SPECS, MessageSpec

__all__ = [
    "MAX_FSS",
    "SPECS",
    "EncodedAvp",
    "Fault",
    "Hiding",
    "Message",
    "MessageSpec",
    "Msg",
    "RawAvp",
    "decode",
    "encode",
]
