"""What a link has agreed, as the record that must survive (K-4…K-10): from the server's side, and from the client's."""

from holdfast.core.auth import Accept
from holdfast.ppp.authentication import Verifier
from holdfast.ppp.config import LinkConfig
from holdfast.ppp.ipcp import ClientOptions
from holdfast.records import LcpRecord, PppRecord


def server_record(
    config: LinkConfig,
    local: LcpRecord,
    peer: LcpRecord,
    verifier: Verifier | None,
    accept: Accept,
    dns: tuple[str, ...],
) -> PppRecord:
    """Whom AAA has let in and what the peer gets; `verifier` is None where no proof was asked for."""
    return PppRecord(
        local_lcp=local,
        peer_lcp=peer,
        auth_method=local.auth,
        auth_name=verifier.name if verifier else "",
        auth_id=verifier.identifier if verifier else 0,
        auth_message=accept.message,
        local_ip=config.local_address,
        peer_ip=accept.address,
        dns=dns,
    )


def client_record(config: LinkConfig, local: LcpRecord, peer: LcpRecord, options: ClientOptions) -> PppRecord:
    """What the peer has given us."""
    return PppRecord(
        local_lcp=local,
        peer_lcp=peer,
        auth_method=peer.auth,
        auth_name=config.name if peer.auth else "",
        auth_id=0,
        auth_message="",
        local_ip=options.local,
        peer_ip=options.peer,
        dns=options.dns,
    )
