"""A picture of a page, taken by the browser that is there: how the README's images are made."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from farthing.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=2000",
)  # fmt: skip
DEADLINE_S = 60.0


def browser() -> str | None:
    """The path of an installed Chromium, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def write_picture(
    page: str | Path,
    out_png: str | Path,
    *,
    width: int = 1400,
    height: int = 900,
    scale: float = 1.0,
    dark: bool = False,
) -> Path:
    """Photograph a local HTML or SVG file at `width` x `height` CSS pixels, times `scale`.

    Raises UserError without a browser, without the page, or when the browser takes longer than DEADLINE_S.
    """
    source, target, program = Path(page).resolve(), Path(out_png), browser()
    if program is None:
        raise UserError(f"no browser to take a picture with; install one of: {', '.join(BROWSERS)}")
    if not source.is_file():
        raise UserError(f"{page}: no such file")
    with tempfile.TemporaryDirectory() as profile:
        taken = Path(profile) / "picture.png"
        command = [
            program, *FLAGS, f"--user-data-dir={profile}/profile", f"--screenshot={taken}",
            f"--window-size={width},{height}", f"--force-device-scale-factor={scale:g}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        ]  # fmt: skip
        if os.geteuid() == 0:
            command.append("--no-sandbox")  # Chromium's sandbox refuses to run for root; the page is our own
        try:
            subprocess.run([*command, source.as_uri()], capture_output=True, timeout=DEADLINE_S, check=False)
        except subprocess.TimeoutExpired:
            raise UserError(f"{program}: took longer than {DEADLINE_S:.0f} s over {page}") from None
        if not taken.is_file():
            raise UserError(f"{program}: took no picture of {page}")
        shutil.copyfile(taken, target)
    return target
