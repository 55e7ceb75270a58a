"""Versions and commit that a run was made with."""

import contextlib
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("zoo", "torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy")


def versions() -> dict[str, str]:
    """Versions of the packages that matter, and the git commit of the checkout the zoo runs from ("unknown" outside of one)."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    checkout = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    found["commit"] = "unknown"
    if (checkout / ".git").exists():  # an installed zoo may lie inside somebody else's repository
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            found["commit"] = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    return found
