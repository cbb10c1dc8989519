"""The command line. Heavy imports live inside the commands: ``xtremex --help`` answers at once."""

from __future__ import annotations

import errno
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import XtremexError
from .statistics_commands import COMMANDS

if TYPE_CHECKING:
    from .run import Options

__all__ = ["app", "main"]

app = typer.Typer(
    name="xtremex",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Does intermediate-task training help vision-language encoders more than text-only ones?\n\n"
    "Start with `xtremex run`: it answers on the embedded suite in minutes, without a network.",
)

SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="Name of a built-in suite, or a TOML file.")]
Out = Annotated[Path, typer.Option("--out", "--output-path", help="Folder for the store and the results.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Precision = Annotated[
    str, typer.Option(help="auto, fp32 or bf16; auto takes bf16 where the device computes in it.")
]
Workers = Annotated[int, typer.Option(help="Worker processes; 0: one per core or GPU.")]
Data = Annotated[
    Path | None,
    typer.Option(help="Folder with your own data (`{data}` in a task) and local copies of hub repositories."),
]
Without = Annotated[
    list[str] | None,
    typer.Option(metavar="TASK", help="Leave a task out, as intermediate and target; may be repeated."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Open no connection; list what is missing.")]


class Listing(StrEnum):
    tasks = "tasks"
    backbones = "backbones"
    pairs = "pairs"
    adapters = "adapters"
    suites = "suites"
    kinds = "kinds"


@app.command()
def run(
    suite: SuiteName = "mini",
    out: Out = Path("runs"),
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Workers = 0,
    data: Data = None,
    without: Without = None,
    offline: Offline = False,
) -> None:
    """Run a suite and write its report; goes on where an earlier run stopped."""
    from rich.console import Console

    from ..analysis.headline import headline
    from .run import run as run_suite

    report = run_suite(
        suite, _options(out, device, precision, workers, data, without, offline), Console(stderr=True)
    )
    _say(headline(report.parent))
    print(report)


@app.command()
def plan(
    suite: SuiteName = "mini",
    out: Out = Path("runs"),
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Workers = 0,
    data: Data = None,
    without: Without = None,
    offline: Offline = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the jobs as JSON, for other schedulers.")
    ] = False,
) -> None:
    """Show what a run would do: jobs, what is finished, time and disk. Trains and writes nothing."""
    from .listing import print_plan

    print_plan(suite, _options(out, device, precision, workers, data, without, offline), as_json=json)


@app.command()
def preregister(
    suite: SuiteName,
    out: Out = Path("runs"),
    device: Device = "auto",
    precision: Precision = "auto",
    data: Data = None,
    without: Without = None,
    late: Annotated[
        bool,
        typer.Option("--late", help="Register though outcomes exist; recorded, nothing is confirmatory."),
    ] = False,
) -> None:
    """Freeze hypotheses, margins and seeds in a hashed file before test scores are read."""
    from ..analysis.preregister import read_registration
    from .registration import preregister as register

    path = register(suite, _options(out, device, precision, data=data, without=without), late=late)
    if found := read_registration(path.parent):
        when = "after test scores existed: nothing is confirmatory" if found.late else "before test scores"
        print(
            f"{len(found.hypotheses)} hypotheses, registered {found.registered}, {when}\nSHA-256 {found.sha256}",
            file=sys.stderr,
        )
    print(path)


@app.command()
def fetch(
    suite: SuiteName,
    out: Out = Path("runs"),
    data: Data = None,
    without: Without = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check columns, label names and row counts of what is there.")
    ] = False,
    convert: Annotated[
        bool,
        typer.Option("--convert", help="Turn pickled weights into safetensors where a model has no others."),
    ] = False,
    offline: Offline = False,
) -> None:
    """Download a suite's data and models at fixed commits, for runs without a network; exits with 1 if any is missing."""
    from .environment import go_offline
    from .fetch import fetch as fetch_suite
    from .screen import console
    from .suite import load_suite

    if offline:
        go_offline()
    options = _options(out, data=data, without=without, offline=offline)
    loaded = load_suite(suite, options.places, options.without)
    if not fetch_suite(
        loaded, options.places, options.pins, console(), verify=verify, offline=offline, convert=convert
    ):
        raise SystemExit(1)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with suite.json and outcomes/.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="xtreme: official submission; mteb: result JSON; csv: scores; lmer: a mixed model in R.",
        ),
    ],
    to: Annotated[Path | None, typer.Option(help="Folder to write to; default: DIR/export-FORMAT.")] = None,
) -> None:
    """Write predictions and scores in other projects' formats; needs only the core install."""
    from ..analysis.export import export as export_to

    target = to or folder / f"export-{format_}"
    with _written(target, "name a folder to write to with --to"):
        for path in export_to(folder, format_, target):
            print(path)


@app.command("list")
def list_(what: Annotated[Listing, typer.Argument(help="What to list.")]) -> None:
    """List the tasks, backbones, pairs, adapters, task kinds or suites there are, plug-ins included."""
    from .catalogues import print_listing

    print_listing(what.value)


@app.command()
def ground(
    backbone: Annotated[
        str, typer.Argument(metavar="BACKBONE", help="A backbone, or an adapter with --checkpoint.")
    ],
    captions: Annotated[
        str, typer.Option(help="openmoji; folder:PATH (images and captions.jsonl); task:NAME (image-text).")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; it exists whole or not at all.")],
    checkpoint: Annotated[
        str, typer.Option(help="Hub id or folder to load from, in place of the catalogue's.")
    ] = "",
    revision: Annotated[str, typer.Option(help="Revision of a hub checkpoint.")] = "",
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the adapter; may be repeated.")
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(metavar="PREFIX", help="Leave parameters of this name as they are; may be repeated."),
    ] = None,
    arms: Annotated[str, typer.Option(help="Which arms, separated by commas.")] = "text,vision,scrambled",
    tower: Annotated[
        str,
        typer.Option(
            help="scratch:NETWORK learns (timm); timm:NETWORK[@FOLDER] and open_clip:CHECKPOINT are frozen."
        ),
    ] = "scratch:test_resnet",
    languages: Annotated[
        str, typer.Option(help="Languages to draw captions in, separated by commas; default: the set's.")
    ] = "",
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 150,
    batch_size: Annotated[int, typer.Option(help="Pictures, each with two captions, per step.")] = 64,
    seed: Annotated[int, typer.Option(help="Order of items, new weights, dropout.")] = 0,
    encoder_lr: Annotated[float, typer.Option(help="Peak learning rate of the encoder.")] = 3e-4,
    tower_lr: Annotated[float, typer.Option(help="Peak learning rate of projections and tower.")] = 5e-3,
    image_size: Annotated[int, typer.Option(help="Pixels on a side, of a tower from scratch.")] = 32,
    dim: Annotated[int, typer.Option(help="Size of the shared space, of a tower from scratch.")] = 128,
    device: Device = "auto",
    precision: Precision = "auto",
    data: Data = None,
    offline: Offline = False,
) -> None:
    """Make text, vision and scrambled arms of a text encoder on captioned pictures, as standard checkpoint folders."""
    from rich.console import Console

    from .environment import go_offline
    from .ground import Request
    from .ground import ground as make

    if offline:
        go_offline()
    request = Request(
        backbone,
        captions,
        out,
        checkpoint=checkpoint,
        revision=revision,
        options=tuple(option or ()),
        freeze=tuple(freeze or ()),
        arms=_listed(arms),
        tower=tower,
        languages=_listed(languages),
        data=data,
        device=device,
        precision=precision,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        encoder_lr=encoder_lr,
        tower_lr=tower_lr,
        image_size=image_size,
        dim=dim,
    )
    print(make(request, Console(stderr=True)))


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A backbone, or an adapter with --checkpoint.")],
    checkpoint: Annotated[str, typer.Option(help="Hub id or folder, when NAME is an adapter.")] = "",
    revision: Annotated[str, typer.Option(help="Revision of a hub checkpoint.")] = "",
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the adapter; may be repeated.")
    ] = None,
) -> None:
    """Run the contract kit on an encoder; exits with 1 when a check fails."""
    from .checking import print_check

    if not print_check(name, checkpoint, revision or None, option or ()):
        raise SystemExit(1)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with suite.json and outcomes/.")],
) -> None:
    """Rebuild the report from the outcomes alone; needs only the core install."""
    from ..analysis.headline import headline
    from ..analysis.report import rebuild

    with _written(
        folder, "the report is written beside its outcomes: copy the folder to where you may write"
    ):
        path = rebuild(folder)
    _say(headline(folder))
    print(path)


for command in COMMANDS:
    app.command()(command)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        from .. import __version__

        print(__version__)
        raise typer.Exit


@contextmanager
def _written(where: Path, hint: str) -> Iterator[None]:
    """A write-protected folder with a hint that this command can follow: it has no --out."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        raise XtremexError(f"{where} cannot be written: {error.strerror}", hint) from None


def _say(text: str) -> None:
    """Print paragraphs, broken between words on a terminal and left whole in a pipe."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        lines = (textwrap.fill(line, width, break_on_hyphens=False) for line in text.split("\n"))
        text = "\n".join(lines)
    print(text)


def _options(
    out: Path,
    device: str = "auto",
    precision: str = "auto",
    workers: int = 0,
    data: Path | None = None,
    without: list[str] | None = None,
    offline: bool = False,
) -> Options:
    from .run import Options

    if data is not None and not data.is_dir():
        raise XtremexError(f"--data {data}: no such folder", "name the folder that holds your data")
    return Options(out, device, precision, workers, data, tuple(without or ()), offline)


def main() -> None:
    """Entry point: errors a user can mend are printed in two lines, exit code 2; Ctrl-C gives 130."""
    try:
        app()
    except XtremexError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(
            "stopped by you: what was finished is kept, run the same command again to go on", file=sys.stderr
        )
        raise SystemExit(130) from None
    except BrokenPipeError:  # the reader of a pipe went away
        sys.stderr.close()
        raise SystemExit(0) from None
    except OSError as error:
        from .store import told

        known = told(error, Path(error.filename or "."))
        if known is None:
            raise
        print(f"error: {known.message}\nhint: {known.hint}", file=sys.stderr)
        raise SystemExit(2) from None
