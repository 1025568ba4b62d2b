"""Compiles the programs of bpf/ whenever the package is built; everything else about it is in pyproject.toml."""

import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPrograms(build_py):
    """Builds the eBPF object first, so that it is among the package's data. Without clang the package lacks it."""

    def run(self) -> None:
        subprocess.run([Path(__file__).parent / "scripts" / "build-bpf"], check=True)
        super().run()


setup(cmdclass={"build_py": BuildWithPrograms})
