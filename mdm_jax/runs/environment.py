"""What a result may depend on besides its configuration."""

import datetime
import os
import platform
import subprocess
import sys
from importlib import metadata

import jax

STARTS = "env.json"  # of a run directory: one entry for each start
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def environment() -> dict:
    """Versions, devices, code revision, command line and time: what a result may depend on."""
    revision = _git("rev-parse", "HEAD") if _git("ls-files", "--error-unmatch", __file__) else ""
    device = jax.devices()[0]
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": list(sys.argv),
        "host": platform.node(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "backend": device.platform,
        "device": device.device_kind,
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "cpu_count": os.cpu_count(),
        "git_commit": revision or None,
        "git_dirty": bool(_git("status", "--porcelain")) if revision else None,
    }


def _git(*arguments: str) -> str:
    """Output of a git command in the package's directory; "" where git or the repository is missing."""
    command = ["git", "-C", os.path.dirname(os.path.abspath(__file__)), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
