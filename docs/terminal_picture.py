"""Runs a command in a terminal of its own and draws what it left on the screen.

python docs/terminal_picture.py docs/img/demo.svg -- alphasweep run selector_grid
"""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import termios

from rich.console import Console
from rich.text import Text


def screen(command: list[str], width: int) -> str:
    """Returns a command's terminal output with its colours; of a line that was redrawn, the last state."""
    driver, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 60, width, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(width)}
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    raw = b""
    try:
        while chunk := os.read(driver, 65536):
            raw += chunk
    except OSError:
        pass  # the terminal closes when the command ends
    if process.wait():
        raise SystemExit(f"{command[0]} ended with {process.returncode}:\n{raw.decode(errors='replace')}")
    text = re.sub(r"\x1b\[\?25[lh]", "", raw.decode(errors="replace")).replace("\r\n", "\n")
    # A progress bar goes back to the line's start and erases it before it draws again.
    return "\n".join(re.split(r"\r|\x1b\[2K", line)[-1] for line in text.split("\n")).strip("\n")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("svg")
    parser.add_argument("command", nargs="+")
    parser.add_argument("--width", type=int, default=100)
    options = parser.parse_args()
    console = Console(record=True, width=options.width, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(f"\x1b[1m$ {' '.join(options.command)}\x1b[0m\n{screen(options.command, options.width)}"))
    console.save_svg(options.svg, title="alphasweep")


if __name__ == "__main__":
    main()
