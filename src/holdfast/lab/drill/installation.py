"""Another installation of this package, whose eBPF programs are of another version: what an upgrade finds.

It is a copy of the one that runs, with one octet added to the compiled programs: they are then other ones by their
checksum, which is how a start tells an upgrade, and load into the kernel as other ones.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import holdfast
from holdfast.dataplane.ebpf.shipped import OBJECT, shipped
from holdfast.lab.nodes import Launch
from holdfast.lab.process import Process, spawn


def another(work: Path) -> Launch:
    """Make one below `work`; what it returns starts a node from there. Raises NotBuilt."""
    package = Path(holdfast.__file__).parent
    copy = work / "upgrade" / package.name
    shutil.copytree(package, copy)
    compiled = copy / OBJECT.relative_to(package)
    octets = compiled.read_bytes() + b"\0"
    compiled.write_bytes(octets)
    sums = f"{shipped().sources}\n{hashlib.sha256(octets).hexdigest()}\n"
    Path(f"{compiled}.sums").write_text(sums)
    path = os.pathsep.join(filter(None, (str(copy.parent), os.environ.get("PYTHONPATH", ""))))

    def launch(config: Path, namespace: str, log: Path) -> Process:
        argv = [sys.executable, "-m", "holdfast", "run", "-c", str(config)]
        return spawn(argv, namespace, log, environment={"PYTHONPATH": path})

    return launch
