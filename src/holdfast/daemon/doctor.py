"""What a node of this configuration would find on this machine: checks that change nothing, each with a remedy.

What the eBPF plane needs is an error only where the configuration insists on it; with "auto" its lack is a warning, and
with another plane no more than a statement.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from holdfast.core.errors import LocalError
from holdfast.daemon import planes
from holdfast.daemon.config_keys import Config, DataplaneSettings, ListenSettings, NodeSettings
from holdfast.dataplane import interfaces
from holdfast.dataplane.ebpf import bpffs, features, libbpf, links, pins
from holdfast.dataplane.ebpf.shipped import shipped
from holdfast.dataplane.interfaces import Interface

State = Literal["ok", "warning", "error"]

_TCX_SINCE = (6, 6)
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_BPF": 39, "CAP_PERFMON": 38}
_STRICT = 1


class Check(msgspec.Struct, frozen=True, gc=False):
    """One finding: what was looked at, how it is, and what would help if it is not well."""

    name: str
    state: State
    text: str
    remedy: str = ""


def examine_machine(files: Sequence[str], proc: Path = Path("/proc")) -> list[Check]:
    """Every check for an LNS that would take whichever data plane there can be; none of these files was found."""
    config = Config(
        node=NodeSettings(name="none", role="lns"),
        listen=ListenSettings(address="127.0.0.1"),
        dataplane=DataplaneSettings(kind="auto"),
    )
    text = f'no {" and no ".join(files)}; looked at the machine for an LNS with dataplane.kind = "auto"'
    missing = Check("configuration", "warning", text, "`holdfast init` writes one; -c FILE names another")
    return [missing, *examine(config, proc)]


def examine(config: Config, proc: Path = Path("/proc")) -> list[Check]:
    """Every check that concerns this configuration."""
    kind = config.dataplane.kind
    lack: State = "error" if kind == "ebpf" else "warning" if kind == "auto" else "ok"
    checks = [*_plane(config), *_sysctls(config, proc)]
    if kind != "null":
        checks += [_tun_device(), _capability(proc, "CAP_NET_ADMIN", "error")]
    checks += [_kernel(lack), *(_capability(proc, name, lack) for name in ("CAP_BPF", "CAP_PERFMON"))]
    checks += [_tried("bpf", features.no_maps, lack), _pin_directory(config, lack), _library(lack)]
    checks.append(_programs(config, lack))
    if kind in ("auto", "ebpf"):
        checks += _interfaces(config)
    return checks


def _plane(config: Config) -> Iterator[Check]:
    choice = planes.choose(config)
    wanted = config.dataplane.kind
    fell_back = wanted == "auto" and choice.kind == "tun"
    text = f"{choice.kind}: {choice.why}"
    yield Check("dataplane", "warning" if fell_back else "ok", text)
    if wanted == "tun" and config.role_is_lns:
        yield Check(
            "dataplane.outage", "ok", "traffic stops while the node is away", 'set dataplane.kind = "auto"'
        )


def _kernel(lack: State) -> Check:
    release = os.uname().release
    numbers = tuple(int("".join(filter(str.isdigit, part)) or 0) for part in release.split(".")[:2])
    if numbers >= _TCX_SINCE:
        return Check("kernel", "ok", release)
    return Check(
        "kernel", lack, f"{release} has no tcx links", "use Linux 6.6 or newer for the eBPF data plane"
    )


def _capability(proc: Path, name: str, lack: State) -> Check:
    fields = dict(
        line.split(":\t", 1) for line in (proc / "self/status").read_text().splitlines() if ":\t" in line
    )
    if int(fields["CapEff"], 16) >> _CAPABILITIES[name] & 1:
        return Check(name, "ok", "granted")
    return Check(name, lack, "not granted", f"run as root, or grant {name} (packaging/holdfast.service does)")


def _tried(name: str, refusal: Callable[[], str | None], lack: State) -> Check:
    reason = refusal()
    return Check(name, "ok", "permitted") if reason is None else Check(name, lack, reason)


def _tun_device() -> Check:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Check("tun", "error", f"/dev/net/tun cannot be opened ({error.strerror})", "modprobe tun")
    return Check("tun", "ok", "/dev/net/tun can be opened")


def _pin_directory(config: Config, lack: State) -> Check:
    directory = config.paths.pins
    if bpffs.is_bpffs(directory):
        if bpffs.is_private(directory):
            remedy = "start the node outside of `ip netns exec` (nsenter --net=… keeps the mounts)"
            return Check(
                "bpffs", lack, f"{directory} is in a private mount namespace and ends with it", remedy
            )
        return Check("bpffs", "ok", f"mounted at {directory}")
    if "nodev\tbpf" not in Path("/proc/filesystems").read_text():
        return Check("bpffs", lack, "this kernel has no bpffs", "use a kernel with CONFIG_BPF_SYSCALL")
    return Check("bpffs", "ok", f"the node mounts it at {directory} when it starts")


def _library(lack: State) -> Check:
    try:
        return Check("libbpf", "ok", libbpf.version())
    except LocalError as error:
        return Check("libbpf", lack, str(error), "apt install libbpf1")


def _programs(config: Config, lack: State) -> Check:
    attached = pins.recorded(config.paths.pins)
    forwarding = f"; forwarding now: {attached[:12]}" if attached else ""
    try:
        return Check("programs", "ok", f"shipped: {shipped().checksum[:12]}{forwarding}")
    except LocalError as error:
        return Check("programs", lack, f"{error}{forwarding}", "scripts/build-bpf")


def _interfaces(config: Config) -> Iterator[Check]:
    settings = config.dataplane
    found: list[Interface] = []
    if settings.interfaces:
        for name in settings.interfaces:
            interface = interfaces.look_at(name)
            if interface is None:
                remedy = "correct dataplane.interfaces, or make it: it is served as soon as it is there"
                yield Check(f"interface {name}", "warning", "there is none of that name", remedy)
            else:
                found.append(interface)
    else:
        found = interfaces.all_ethernet()
    for interface in found:
        mode = links.pinned_mode(f"{config.paths.pins}/{pins.CURRENT}", interface.name)
        driver = interface.driver or "none"
        if mode:
            yield Check(f"interface {interface.name}", "ok", f"driver {driver}, served by {mode}")
            continue
        expected = settings.mode if settings.mode != "auto" else links.likely_mode(interface)
        yield Check(f"interface {interface.name}", "ok", f"driver {driver}, would be served by {expected}")


def _sysctls(config: Config, proc: Path) -> Iterator[Check]:
    if not config.role_is_lns or config.dataplane.kind == "null":
        return
    ipv4 = proc / "sys/net/ipv4"
    if _number(ipv4 / "ip_forward"):
        yield Check("ip_forward", "ok", "on")
    else:
        yield Check("ip_forward", "error", "off: nothing is forwarded", "sysctl -w net.ipv4.ip_forward=1")
    if config.dataplane.kind == "tun":
        return  # what subscribers send comes by its device, to which their routes lead
    for_all = _number(ipv4 / "conf/all/rp_filter")
    names = config.dataplane.interfaces or tuple(i.name for i in interfaces.all_ethernet())
    strict = [n for n in names if max(for_all, _number(ipv4 / f"conf/{n}/rp_filter")) == _STRICT]
    if strict:
        remedy = "; ".join(f"sysctl -w net.ipv4.conf.{name}.rp_filter=2" for name in strict)
        text = f"strict on {', '.join(strict)}: what XDP leaves to the kernel would be dropped"
        yield Check("rp_filter", "warning", text, remedy)
    else:
        yield Check("rp_filter", "ok", "not strict where packets of subscribers arrive")


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
