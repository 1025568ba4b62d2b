"""The options of LCP (RFC 1661 section 6): what we ask for and what we think of a peer's wishes.

Acknowledged: MRU, ACCM, PFC, ACFC, magic number, and for a client the authentication that it can do. Everything else
(MRRU, endpoint discriminator, quality, callback, FCS alternatives, …) serves no purpose over L2TP and is rejected.
"""

from typing import Final

from holdfast.core.auth import CHAP, PAP
from holdfast.core.ids import RandomBytes
from holdfast.ppp.config import LinkConfig, Role
from holdfast.ppp.effects import Cause
from holdfast.ppp.packet import Code, split_options
from holdfast.records import LcpRecord

MRU: Final = 1
ACCM: Final = 2
AUTH: Final = 3
MAGIC: Final = 5
PFC: Final = 7
ACFC: Final = 8

DEFAULT_MRU: Final = 1500
MIN_MRU: Final = 128
"""The smallest MRU that is taken from a peer: below it, packets cost more than they carry."""

_AUTH_OPTION: Final = {CHAP: b"\x03\x05\xc2\x23\x05", PAP: b"\x03\x04\xc0\x23"}
_AUTH_METHOD: Final = {option: method for method, option in _AUTH_OPTION.items()}


class LcpOptions:
    """LCP of one link. After an Ack in both directions `local` and `peer` are what was agreed."""

    __slots__ = (
        "_accepts",
        "_collided",
        "_magic",
        "_max_mru",
        "_mru",
        "_offers",
        "_random",
        "_refused",
        "peer",
    )

    def __init__(self, config: LinkConfig, magic: int, random: RandomBytes) -> None:
        """`magic` is the one to offer: a fresh one for a new link, the recorded one for a session that goes on."""
        server = config.role is Role.SERVER
        self._offers = config.auth if server else ()
        self._accepts = () if server else config.auth
        self._max_mru = self._mru = config.mru
        self._magic = magic
        self._random = random
        self.peer = LcpRecord()
        self._collided = False
        self._refused = False

    @property
    def local(self) -> LcpRecord:
        """What we asked for last."""
        return LcpRecord(mru=self._mru, magic=self._magic, auth=self._offers[0] if self._offers else 0)

    @property
    def blame(self) -> Cause:
        """Why there was no agreement. The peer's magic number being ours means a looped line (P-10)."""
        if self._collided:
            return Cause.LOOPBACK
        return Cause.AUTH_REFUSED if self._refused else Cause.LCP_FAILED

    def request(self) -> bytes:
        """MRU, authentication (one protocol, P-15), magic number; what was rejected is left out."""
        options = b""
        if self._mru != DEFAULT_MRU:
            options = b"\x01\x04" + self._mru.to_bytes(2, "big")
        if self._offers:
            options += _AUTH_OPTION[self._offers[0]]
        if self._magic:
            options += b"\x05\x06" + self._magic.to_bytes(4, "big")
        return options

    def judge(self, options: bytes, final: bool) -> tuple[Code, bytes]:
        """See `Options.judge`. A magic number is never rejected, as we ask for one ourselves (P-11)."""
        mru, accm, magic, auth = DEFAULT_MRU, 0xFFFFFFFF, 0, 0
        pfc = acfc = collided = False
        rejects: list[bytes] = []
        naks: list[bytes] = []
        for option in split_options(options):
            kind, size = option[0], len(option)
            if kind == MAGIC:
                magic = int.from_bytes(option[2:], "big") if size == 6 else 0
                if magic == 0 or magic == self._magic:
                    collided = magic != 0
                    naks.append(b"\x05\x06" + self._fresh_magic().to_bytes(4, "big"))
            elif kind == MRU:
                mru = int.from_bytes(option[2:], "big") if size == 4 else 0
                if mru < MIN_MRU and final:
                    rejects.append(option)
                elif mru < MIN_MRU:
                    naks.append(b"\x01\x04" + DEFAULT_MRU.to_bytes(2, "big"))
            elif kind == ACCM and size == 6:
                accm = int.from_bytes(option[2:], "big")
            elif kind == PFC and size == 2:
                pfc = True
            elif kind == ACFC and size == 2:
                acfc = True
            elif kind == AUTH and self._accepts:
                auth = _AUTH_METHOD.get(option, 0)
                if auth not in self._accepts and final:
                    rejects.append(option)
                elif auth not in self._accepts:
                    naks.append(_AUTH_OPTION[self._accepts[0]])
            else:
                rejects.append(option)
        if rejects:
            return Code.CONFIGURE_REJECT, b"".join(rejects)
        if naks:
            self._collided = collided
            return Code.CONFIGURE_NAK, b"".join(naks)
        self._collided = False
        self.peer = LcpRecord(mru=mru, magic=magic, accm=accm, pfc=pfc, acfc=acfc, auth=auth)
        return Code.CONFIGURE_ACK, options

    def naked(self, options: list[bytes]) -> bool:
        """A smaller MRU is taken, a magic number drawn anew, the next authentication protocol tried (P-15)."""
        for option in options:
            kind = option[0]
            if kind == MRU and len(option) == 4:
                mru = int.from_bytes(option[2:], "big")
                if MIN_MRU <= mru <= self._max_mru:
                    self._mru = mru
            elif kind == MAGIC and self._magic:
                self._magic = self._fresh_magic()
            elif kind == AUTH and self._offers:
                left = self._offers[1:]
                wanted = _AUTH_METHOD.get(option, 0)
                if wanted in left:
                    left = (wanted, *(method for method in left if method != wanted))
                if not left:
                    self._refused = True
                    return False
                self._offers = left
        return True

    def rejected(self, options: list[bytes]) -> bool:
        """MRU and magic number can be done without; a peer that will not authenticate cannot."""
        for option in options:
            kind = option[0]
            if kind == AUTH:
                self._refused = True
                return False
            if kind == MRU:
                self._mru = DEFAULT_MRU
            elif kind == MAGIC:
                self._magic = 0
        return True

    def _fresh_magic(self) -> int:
        """A number that is neither 0 nor the one in use."""
        magic = int.from_bytes(self._random(4), "big")
        return magic if magic not in (0, self._magic) else self._magic ^ 0x5A5A5A5A or 1
