"""Build the wheel and use it outside the checkout: its data files are in it, and it imports nothing from here.

python .ci/wheel.py EMPTY_FOLDER
"""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import sys, farthing
from farthing.cli.main import build
build()
assert "torch" not in sys.modules, "the command line imports torch"
print(farthing.__version__, farthing.__file__)
"""


def package_files() -> set[str]:
    """What git would ship of the package: everything but caches."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / "farthing").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def main() -> None:
    folder = Path(sys.argv[1])
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("farthing-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        missing = package_files() - set(archive.namelist())
        if missing:
            sys.exit(f"the wheel lacks {sorted(missing)}")
        archive.extractall(folder / "unpacked")
    # -I -S-like isolation would also hide the dependencies; a foreign working directory and path[0] are enough.
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, 'unpacked')\n{PROGRAM}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or str(folder / "unpacked") not in done.stdout:
        sys.exit(f"the wheel does not work outside the checkout: {done.stdout}{done.stderr}")
    print(f"wheel: {wheel.name} holds {len(package_files())} files and works outside the checkout")


if __name__ == "__main__":
    main()
