"""C++ compiled for this machine where a compiler is at hand, into the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

FLAGS = ("-O3", "-march=native", "-fopenmp", "-std=c++17", "-shared", "-fPIC")
COMPILE_SECONDS = 120


def compiled(*sources: Path) -> ctypes.CDLL | None:
    """The functions of `sources`, which may include headers that lie beside them; None without a compiler, where it
    fails, or with FARTHING_FUSED=0."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None or os.environ.get("FARTHING_FUSED") == "0":
        return None
    try:
        return ctypes.CDLL(str(_library(sources, compiler)))
    except (OSError, subprocess.SubprocessError):
        return None


def _library(sources: tuple[Path, ...], compiler: str) -> Path:
    """The library's file, made if it is not there; its name is a digest of all that it depends on."""
    processor = Path("/proc/cpuinfo")
    lines = processor.read_text().splitlines() if processor.exists() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    read = [*sources, *sorted({path for source in sources for path in source.parent.glob("*.h")})]
    texts = [path.read_text(encoding="utf-8") for path in read]
    parts = (*texts, *FLAGS, compiler, torch.__version__, features)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "farthing"
    path = folder / f"{sources[0].stem}-{digest}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / path.name
            # PyTorch's own OpenMP: a second pool of threads on the same cores would fight the first.
            own = f"-L{Path(torch.__file__).parent / 'lib'}"
            command = [compiler, *FLAGS, *map(str, sources), own, "-o", str(made)]
            subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_SECONDS)
            made.replace(path)
    return path
