"""xl2tpd with pppd, as a LAC or as an LNS. Only where /etc/ppp is nobody else's (`lab.kernel`).

It needs PPP over L2TP in the kernel, and pppd reads its CHAP secrets in /etc/ppp alone. Invariant: each daemon has one
session at most, whose interface and process id are known by the daemon's name.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from holdfast.lab.kernel import pppol2tp, uml
from holdfast.lab.netns import entered
from holdfast.lab.peers import PeerFailed
from holdfast.lab.process import spawn, stop

PROGRAMS = {"xl2tpd": "xl2tpd", "pppd": "ppp"}
"""What has to be installed, with its Debian package."""

_PPPD = Path("/usr/sbin/pppd")
_RUN = Path("/run")
_ANSWERS = _RUN / "xl2tpd"
"""Where xl2tpd-control expects its answers."""

_LINE = "line"
_CALLS = re.compile(r"AVAILABLE tunnel .* has (\d+) calls")


def unavailable() -> str | None:
    """Why this machine cannot run it, or None. Whoever may not execute pppd here may do so in a throw-away kernel."""
    for program, package in PROGRAMS.items():
        if shutil.which(program, mode=os.F_OK, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            return f"{program} is missing (package {package})"
    return None


def private() -> bool:
    """Whether pppd's files here are nobody else's: in a throw-away kernel, or in a mount namespace made for it."""
    return uml.inside() or pppol2tp.private()


def prepare(users: Iterable[tuple[str, str]]) -> None:
    """Once per place: pppd may be started and finds nothing of this machine's, but the names and secrets of `users`.

    To a kernel whose host user is not root, Debian's pppd can be read but not executed, and /etc/ppp is closed.
    Raises PeerFailed where /etc/ppp is this machine's.
    """
    if not private():
        raise PeerFailed("xl2tpd and pppd are run in a throw-away kernel only: python -m holdfast.lab.kernel")
    if not pppol2tp.SETTINGS.is_mount():
        subprocess.run(["mount", "-t", "tmpfs", "none", str(pppol2tp.SETTINGS)], check=True)
    if uml.inside():
        _PPPD.chmod(0o755)
    secrets = pppol2tp.SETTINGS / "chap-secrets"
    secrets.write_text("".join(f'"{name}" * "{secret}" *\n' for name, secret in users))
    secrets.chmod(0o600)


class Xl2tpd:
    """One xl2tpd process. Build it with `lac` or `lns`."""

    def __init__(
        self, name: str, namespace: str, directory: Path, configuration: str, ppp: Iterable[str], secret: str
    ) -> None:
        self.device = f"ppp-{name}"
        self.log = directory / f"{name}.log"
        self.ppp_log = directory / f"{name}.ppp.log"
        self._pid_file = _RUN / f"ppp-{name}.pid"
        self._namespace = namespace
        self._control = _RUN / f"{name}.control"
        secrets = directory / f"{name}.secrets"
        secrets.write_text(f"* * {secret}\n")
        options = directory / f"{name}.ppp"
        options.write_text("\n".join([*ppp, *self._ppp_options(name), ""]))
        file = directory / f"{name}.conf"
        file.write_text(configuration.format(secrets=secrets, options=options))
        self._argv = [
            *("xl2tpd", "-D", "-c", str(file), "-s", str(secrets)),
            *("-p", str(_RUN / f"{name}.pid"), "-C", str(self._control)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def _ppp_options(self, name: str) -> list[str]:
        return [f"ifname {self.device}", f"linkname {name}", "debug", f"logfile {self.ppp_log}"]

    @property
    def ready(self) -> bool:
        """Whether it takes commands. Raises PeerFailed if it has ended."""
        if self._process is None or self._process.poll() is not None:
            raise PeerFailed(f"xl2tpd has ended: see {self.log}")
        return self._control.exists()

    @property
    def said(self) -> str:
        """What it has logged so far."""
        return self.log.read_text()

    def start(self) -> None:
        """Start the daemon; no call is placed."""
        _ANSWERS.mkdir(exist_ok=True)
        self._process = spawn(self._argv, self._namespace, self.log)

    def connect(self) -> bool:
        """A LAC: set up the tunnel if there is none, and place the call; False if it still has the last one."""
        return self._command("connect-lac")

    def disconnect(self) -> None:
        """A LAC: end the call and the tunnel. Raises PeerFailed."""
        if not self._command("disconnect-lac"):
            raise PeerFailed(f"xl2tpd does not disconnect: see {self.log}")

    def call_on(self, tunnel_id: int) -> None:
        """Place a call in a tunnel, by its id at xl2tpd, whoever has set it up. Raises PeerFailed."""
        self._require("connect-lac", tunnel_id)

    def stop_tunnel(self, tunnel_id: int) -> None:
        """End a tunnel, by its id at xl2tpd, whoever has set it up. Raises PeerFailed."""
        self._require("disconnect-lac", tunnel_id)

    def _require(self, word: str, tunnel_id: int) -> None:
        if not self._command(word, str(tunnel_id)):
            raise PeerFailed(f"xl2tpd refuses {word} of tunnel {tunnel_id}: see {self.log}")

    def signal_pppd(self, number: signal.Signals) -> None:
        """Send a signal to the pppd of the session. Raises PeerFailed if there is none."""
        pid = self.pppd
        if pid is None:
            raise PeerFailed(f"no pppd runs: see {self.ppp_log}")
        os.kill(pid, number)

    def hang_up(self) -> None:
        """End the call as the user of pppd would. Raises PeerFailed if there is none."""
        self.signal_pppd(signal.SIGTERM)

    def end(self) -> None:
        """Ask the daemon to end, as its service would be stopped, and wait until it has."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)

    def close(self) -> None:
        """Kill the daemon, and its pppd."""
        if (pid := self.pppd) is not None:
            os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            stop(self._process)

    @property
    def pppd(self) -> int | None:
        """The process id of this daemon's pppd: what the file names, unless that is gone and the file was left behind."""
        try:
            pid = int(self._pid_file.read_text().split()[0])
            return pid if Path(f"/proc/{pid}/comm").read_text().strip() == "pppd" else None
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return None

    @property
    def calls(self) -> int:
        """How many calls it has, half-open ones included."""
        said = self._control_says("available").stderr
        if "AVAILABLE tunnels count" not in said:
            raise PeerFailed(f"xl2tpd does not tell its calls: {said}")
        return sum(int(calls) for calls in _CALLS.findall(said))

    def _command(self, word: str, what: str = _LINE) -> bool:
        return self._control_says(word, what).returncode == 0

    def _control_says(self, word: str, what: str = _LINE) -> "subprocess.CompletedProcess[str]":
        with entered(self._namespace):
            return subprocess.run(
                ["xl2tpd-control", "-d", "-c", str(self._control), word, what],
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )


def lac(
    name: str,
    namespace: str,
    directory: Path,
    *,
    address: str,
    lns: str,
    user: str,
    password: str,
    secret: str = "",
    ppp: Iterable[str] = (),
) -> Xl2tpd:
    """A LAC with one line whose PPP client is pppd with its defaults, and `ppp` as further options of it.

    With `secret` it challenges, and answers challenges.
    """
    configuration = f"""
[global]
listen-addr = {address}
auth file = {{secrets}}
[lac {_LINE}]
lns = {lns}
redial = no
autodial = no
{_challenge(secret)}
pppoptfile = {{options}}
"""
    client = ["noauth", f'user "{user}"', f'password "{password}"', *ppp]
    return Xl2tpd(name, namespace, directory, configuration, client, secret)


def lns(
    name: str,
    namespace: str,
    directory: Path,
    *,
    address: str,
    local_ip: str,
    pool: str,
    secret: str = "",
    ppp: Iterable[str] = (),
) -> Xl2tpd:
    """An LNS that demands CHAP and gives out the addresses of `pool` ("first-last")."""
    configuration = f"""
[global]
listen-addr = {address}
auth file = {{secrets}}
[lns default]
ip range = {pool}
local ip = {local_ip}
require chap = yes
refuse pap = yes
require authentication = yes
name = lns
{_challenge(secret)}
pppoptfile = {{options}}
"""
    return Xl2tpd(name, namespace, directory, configuration, ppp, secret)


def _challenge(secret: str) -> str:
    return f"challenge = {'yes' if secret else 'no'}"
