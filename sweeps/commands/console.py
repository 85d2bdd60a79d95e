"""What the commands share: where they print, how tables look, which study is meant."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from sweeps.study import Study

out = Console(emoji=False)
err = Console(stderr=True, emoji=False)

StudyArg = Annotated[str, typer.Argument(help="A study file, or a name from `alphasweep ls`.", show_default=False)]
NameArg = Annotated[str, typer.Argument(help="Name of a study that has run.", show_default=False)]
DirOpt = Annotated[Path, typer.Option("--dir", metavar="FOLDER", help="Folder that holds the studies' folders.", file_okay=False)]
HostOpt = Annotated[
    Path | None,
    typer.Option("--host", metavar="FILE", help="Host file that names lanes; default host.yaml, if there is one.", dir_okay=False),
]
LedgerOpt = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        envvar="ALPHASWEEP_LEDGER",
        help="Keep the ledger in this database, as postgresql://USER@HOST/DATABASE, without a password; default a file of the study.",
    ),
]
SetOpt = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. --set data.bars=720. Repeatable.")
]


def target(path: Path | None) -> Path | None:
    """Refuses a file that cannot be written before anything is done for it."""
    if path is not None and not path.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {str(path.parent)!r}; make it first.")
    return path


def export(what: str) -> Any:
    """Makes an option that names a file to write."""
    return typer.Option(metavar="FILE", help=f"Write all trials to this {what} file.", dir_okay=False, callback=target)


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], title: str | None = None, numbers: Sequence[str] = ()) -> Table:
    """Makes a table; cells are plain text, whatever brackets they have in them."""
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_header=any(columns), title_justify="left", title_style="bold")
    made.title = Text(title) if title else None
    for name in columns:
        made.add_column(Text(name), justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return made


def say(line: str | Text, console: Console = out) -> None:
    """Prints a line as it is: no markup, no colouring, and unbroken, so that pipes and copies get whole lines."""
    console.print(line if isinstance(line, Text) else Text(line), soft_wrap=True)


def many(n: int, one: str, more: str = "") -> str:
    """Returns a number with its noun, such as "1 point" or "1,944 points"; a plural other than with an s is given."""
    return f"{n:,} {one if n == 1 else more or f'{one}s'}"


def command_for(name: str, study: str, dir: Path, *options: str) -> str:
    """Returns a command to copy."""
    return shlex.join(["alphasweep", name, study, *([] if dir == Path("runs") else ["--dir", str(dir)]), *options])


def studies_in(folder: Path) -> list[str]:
    """Returns the names of the studies that have run in a folder."""
    from sweeps.runner import LEDGER

    return sorted(path.parent.name for path in folder.glob(f"*/{LEDGER}"))


def load_study(study: str, overrides: Sequence[str] = (), folder: Path = Path("runs")) -> Study:
    """Reads a study file or a study of the library; what has run in `folder` is what a misspelled name may have meant."""
    from sweeps.history import refuse_at
    from sweeps.study import Study

    if not Path(study).exists():
        refuse_at(folder / study, "nothing to run, plan or audit")
    return Study.load(study, overrides, ran=studies_in(folder))


def home_of(study: str, folder: Path) -> Path:
    """Returns the folder of a study that has run, given its name or its file."""
    import difflib

    from sweeps.runner import LEDGER
    from sweeps.study import Study, StudyError

    name = study
    if study.endswith((".yaml", ".yml")):
        name = Study.load(study).name if Path(study).is_file() else Path(study).stem
    home = folder / name
    if (home / LEDGER).exists():
        return home
    if not folder.is_dir():
        raise StudyError(f"--dir {folder}: no such folder")
    ran = studies_in(folder)
    near = difflib.get_close_matches(name, ran, 1)
    hint = f" Did you mean {near[0]!r}?" if near else f" There are {', '.join(ran[:10])}." if ran else ""
    raise StudyError(f"{study}: no study of that name has run in {folder}.{hint}")
