"""l2tpns, an LNS in user space. It needs no more than a network namespace with a TUN device.

It reads its files in /etc/l2tpns only, so it runs in a mount namespace of its own. It is deaf for the cluster's
time-out after its start, shortened here to the least that it takes; and it signals its whole process group when it
ends: it has a session of its own. Several of them in one network namespace need a number each.
"""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import msgspec

from holdfast.lab.netns import entered
from holdfast.lab.peers import PeerFailed
from holdfast.lab.process import spawn, stop

PROGRAMS = {"l2tpns": "l2tpns"}
"""What has to be installed, with its Debian package."""

_SESSION = re.compile(rb"^ *(\d+) +\d+ +(\d+) (.{32}) ([\d.]+) ", re.MULTILINE)
_ETC = "/etc/l2tpns"
_NAME = "startup-config"
_COMMAND_PORT = 23
_PATIENCE_S = 20.0
"""It forks for its command line, with all of its memory: that takes seconds in a throw-away kernel."""


def unavailable() -> str | None:
    """Why this machine cannot run it, or None."""
    return None if shutil.which("l2tpns", path="/usr/sbin:/usr/bin") else "l2tpns is missing (package l2tpns)"


class Session(msgspec.Struct, frozen=True):
    """A row of its list of sessions, by its own ids. Without a user, no address: 0.0.0.0.

    A session that has ended is listed for 15 s more, with its user and without an address.
    """

    session: int
    tunnel: int
    user: str
    address: str


class L2tpns:
    """One l2tpns process, which asks a RADIUS server on its loopback interface."""

    def __init__(
        self,
        namespace: str,
        directory: Path,
        *,
        address: str,
        inside_address: str,
        radius: tuple[str, int],
        radius_secret: str,
        secret: str,
        authentication: str = "pap",
        number: int = 1,
    ) -> None:
        """`address` is where LACs find it, `inside_address` its own on PPP links; "pap" or "chap" authenticates."""
        self._command_line = (f"127.0.0.{number}", _COMMAND_PORT)
        self.log = directory / "l2tpns.log"
        self._namespace = namespace
        self._process: subprocess.Popen[bytes] | None = None
        etc = directory / "etc"
        etc.mkdir()
        (etc / "ip_pool").write_text("")
        (etc / "users").write_text("")
        settings: dict[str, object] = {
            "debug": 3,
            "log_file": f'"{self.log}"',
            "pid_file": f'"{directory}/pid"',
            "l2tp_secret": f'"{secret}"',
            "primary_radius": radius[0],
            "primary_radius_port": radius[1],
            "radius_secret": f'"{radius_secret}"',
            "radius_authtypes": f'"{authentication}"',
            "bind_address": address,
            "peer_address": inside_address,
            "iftun_address": inside_address,
            "cli_bind_address": self._command_line[0],
            "cluster_interface": '"lo"',
            "cluster_address": f"239.192.0.{number}",
            "cluster_hb_interval": 2,
            "cluster_hb_timeout": 10,
        }
        (etc / _NAME).write_text("".join(f"set {key} {value}\n" for key, value in settings.items()))
        inside = f"mount --bind {etc} {_ETC} && exec l2tpns"
        self._argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", inside]
        self._out = directory / "l2tpns.out"

    def start(self) -> None:
        """Start the daemon."""
        self._process = spawn(self._argv, self._namespace, self._out)

    @property
    def ready(self) -> bool:
        """Whether it listens: it does once it has made itself the master of its cluster of one."""
        return self.log.exists() and "declaring myself the master" in self.log.read_text()

    def sessions(self) -> list[Session]:
        """What it lists."""
        said = self._command("show session")
        return [
            Session(int(session), int(tunnel), user.decode(errors="replace").strip(), address.decode())
            for session, tunnel, user, address in _SESSION.findall(said)
        ]

    def lives(self, session_id: int) -> bool:
        """Whether a session has not ended, by its id at l2tpns."""
        phase = self._command(f"show session {session_id}").partition(b"PPP Phase:")[2].split()
        return bool(phase) and phase[0] != b"Dead"

    def drop_session(self, session_id: int) -> None:
        """End a session, by its id at l2tpns (by the user's name it finds one that ended just before)."""
        self._command(f"drop session {session_id}")

    def drop_tunnel(self, tunnel_id: int) -> None:
        """End a tunnel, by its id at l2tpns."""
        self._command(f"drop tunnel {tunnel_id}")

    def _command(self, line: str) -> bytes:
        """Say something at its command line, as an administrator; returns what it says. Raises PeerFailed."""
        said = b""
        try:
            with entered(self._namespace):
                session = socket.create_connection(self._command_line, _PATIENCE_S)
            with session:
                for words, prompt in (("enable", b"> "), (line, b"# "), ("logout", b"# ")):
                    said = _read_until(session, prompt)
                    session.sendall(f"{words}\r\n".encode())
        except OSError as e:
            raise PeerFailed(f"l2tpns does not take {line!r} at its command line: {e!r}") from e
        return said

    def close(self) -> None:
        """Kill the daemon."""
        if self._process is not None:
            stop(self._process)


def _read_until(session: socket.socket, prompt: bytes) -> bytes:
    said = b""
    while not said.endswith(prompt):
        chunk = session.recv(4096)
        if not chunk:
            raise ConnectionResetError("l2tpns has closed its command line")
        said += chunk
    return said
