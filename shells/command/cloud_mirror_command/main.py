"""The `cloud-mirror` command: what it takes. What each command does stands in a module that is imported with it,
so that `--help` is quick and a back end never loads what only `get` needs.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from cloud_mirror_command.complaint import Complaint
from cloud_mirror_command.shells import ShellName

if TYPE_CHECKING:
    from cloud_mirror_command.dead import Post

WORLD: Final = "Explore one world: so many {}."
ONE_WORLD: Final = ("fronts", "backs", "purges", "faults", "parts", "lasting", "lies")
"""What makes the world that `simulate --explore` explores instead of its lists."""

EXPLORING: Final = ("long", "diagram", *ONE_WORLD)
"""What `simulate` takes only with `--explore`."""

EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""


class _Commands(TyperGroup):
    """Turns a complaint of any command into its line and its exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Complaint as complaint:
            typer.echo(" ".join(str(complaint).split()), err=True)
            raise typer.Exit(complaint.exit_status) from complaint
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from interrupt


app: Final = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

UrlArgument = Annotated[str, typer.Argument(metavar="URL", help="The source URL, as the origin has it.")]
PoolOption = Annotated[
    str | None, typer.Option("--pool", metavar="POOL", help="The pool, such as s3_us-west-1, where there are several.")
]
LetterArgument = Annotated[str, typer.Argument(metavar="NAME", help="The letter's name, or its beginning.")]
LettersArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="The letters' names, or their beginnings.")
]
EveryOption = Annotated[bool, typer.Option("--all", help="Every letter.")]
PoolsOption = Annotated[
    list[str] | None, typer.Option("--pool", metavar="POOL", help="Copy for this pool only; may be repeated.")
]
ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="The running mirror, such as http://127.0.0.1:8080.")
]
ShellOption = Annotated[ShellName, typer.Option("--shell", help="What performs the I/O.")]
HostOption = Annotated[str | None, typer.Option("--host", help="Listen here, whatever the file says.")]
PortOption = Annotated[int | None, typer.Option("--port", help="Listen on this port, whatever the file says.")]
LevelOption = Annotated[
    str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error; logs go to stderr.")
]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"cloud-mirror {version('cloud-mirror')}")
        except PackageNotFoundError:
            typer.echo("cloud-mirror (not installed: its version is unknown)")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="The configuration; else CLOUD_MIRROR_CONFIG names it, else it is cloud-mirror.toml here.",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001  # its callback does all
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version, and end.")
    ] = False,
) -> None:
    """Copy an object into a region when it is first asked for, and redirect every later request to the copy."""
    ctx.obj = config


@app.command()
def setup(
    ctx: typer.Context,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Set nothing up: abort the uploads of copies that were left behind.")
    ] = False,
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than", metavar="DAYS", help="With --sweep: those begun so long ago; else as setup has it."
        ),
    ] = None,
    shell: ShellOption = ShellName.ASYNCIO,
) -> None:
    """Make every pool's bucket and queues ready. May be run again at any time."""
    from cloud_mirror_command import common, operate

    policy = common.policy_of(ctx.obj)
    if sweep:
        raise typer.Exit(operate.sweep(policy, shell, older_than))
    _refuse(ctx, ("older_than",), "is for sweeping: add --sweep, or leave it out")
    raise typer.Exit(operate.setup(policy, shell))


@app.command()
def doctor(ctx: typer.Context, shell: ShellOption = ShellName.ASYNCIO) -> None:
    """Say of each part whether it can be reached and is configured rightly, and what to do if not."""
    from cloud_mirror_command import common, operate

    raise typer.Exit(operate.doctor(common.policy_of(ctx.obj), shell))


@app.command()
def serve(
    ctx: typer.Context,
    host: HostOption = None,
    port: PortOption = None,
    log_level: LevelOption = "info",
    shell: ShellOption = ShellName.ASYNCIO,
) -> None:
    """Run a front end: answer requests."""
    from cloud_mirror_command import common, operate

    policy = common.policy_of(ctx.obj, host=host, port=port)
    raise typer.Exit(operate.run(policy, shell, log_level, front_end=True))


@app.command()
def work(
    ctx: typer.Context,
    host: HostOption = None,
    port: PortOption = None,
    pool: PoolsOption = None,
    log_level: LevelOption = "info",
    shell: ShellOption = ShellName.ASYNCIO,
) -> None:
    """Run a back end: make copies. With a port, it shows its health and metrics there."""
    from cloud_mirror_command import common, operate

    policy = common.policy_of(ctx.obj, host=host, port=port, section="worker")
    raise typer.Exit(operate.run(policy, shell, log_level, back_end=True, pools=pool))


@app.command(name="all")
def both(
    ctx: typer.Context,
    host: HostOption = None,
    port: PortOption = None,
    pool: PoolsOption = None,
    log_level: LevelOption = "info",
    shell: ShellOption = ShellName.ASYNCIO,
) -> None:
    """Run a front end and a back end in one process."""
    from cloud_mirror_command import common, operate

    policy = common.policy_of(ctx.obj, host=host, port=port)
    raise typer.Exit(operate.run(policy, shell, log_level, front_end=True, back_end=True, pools=pool))


@app.command()
def get(
    ctx: typer.Context,
    url: UrlArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write here; - is standard output. Else the URL's name."),
    ] = None,
    pool: PoolOption = None,
    server: ServerOption = None,
) -> None:
    """Fetch a URL through the running mirror, and say what became of it."""
    from cloud_mirror_command import ask

    target = ask.target_of(ctx.obj, server, pool, url)
    ask.get(target, output)


@app.command()
def purge(
    ctx: typer.Context,
    url: UrlArgument,
    pool: PoolOption = None,
    server: ServerOption = None,
    shell: ShellOption = ShellName.ASYNCIO,
) -> None:
    """Make the mirror forget its copies of a URL: in one pool, or in all of them.

    With --server through that mirror, which wants the token of CLOUD_MIRROR_ADMIN_TOKEN; else directly.
    """
    if server:
        from cloud_mirror_command import ask

        ask.purge(ctx.obj, server, pool, url)
    else:
        from cloud_mirror_command import common, operate

        operate.purge(common.policy_of(ctx.obj), shell, pool, url)


@app.command()
def rewrite(ctx: typer.Context, url: UrlArgument, pool: PoolOption = None, server: ServerOption = None) -> None:
    """Print the URL to ask the mirror for instead."""
    from cloud_mirror_command import ask

    typer.echo(ask.target_of(ctx.obj, server, pool, url).redirect_url)


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the steps: with 0 if each gave what it should.")
    ] = False,
    shell: ShellOption = ShellName.ASYNCIO,
) -> None:
    """Show it all on this machine: a made-up origin, store, queue and cache, and a real mirror between them."""
    from cloud_mirror_command import demo as show

    raise typer.Exit(show.run(shell, once=once))


dead: Final = typer.Typer(no_args_is_help=True)
app.add_typer(dead, name="dead", help="See to jobs that were given up: their dead letters.")


def _post(ctx: typer.Context, shell: ShellName, pool: str | None) -> Post:
    from cloud_mirror_command import common
    from cloud_mirror_command.dead import Post

    return Post(common.policy_of(ctx.obj), shell, pool)


@dead.command("list")
def list_letters(ctx: typer.Context, pool: PoolOption = None, shell: ShellOption = ShellName.ASYNCIO) -> None:
    """Show every dead letter: its name, why it was given up, and what was to be copied."""
    raise typer.Exit(_post(ctx, shell, pool).show_list())


@dead.command("show")
def show_letter(
    ctx: typer.Context, name: LetterArgument, pool: PoolOption = None, shell: ShellOption = ShellName.ASYNCIO
) -> None:
    """Print all that is known of a dead letter, as JSON."""
    raise typer.Exit(_post(ctx, shell, pool).show(name))


@dead.command("redrive")
def redrive_letters(
    ctx: typer.Context,
    names: LettersArgument = None,
    every: EveryOption = False,
    pool: PoolOption = None,
    shell: ShellOption = ShellName.ASYNCIO,
) -> None:
    """Send the jobs again, and drop their letters."""
    raise typer.Exit(_post(ctx, shell, pool).redrive(names or (), every))


@dead.command("drop")
def drop_letters(
    ctx: typer.Context,
    names: LettersArgument = None,
    every: EveryOption = False,
    pool: PoolOption = None,
    shell: ShellOption = ShellName.ASYNCIO,
) -> None:
    """Delete dead letters: nobody asks for these copies any more."""
    raise typer.Exit(_post(ctx, shell, pool).drop(names or (), every))


@app.command()
def simulate(
    ctx: typer.Context,
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", min=1, help="How many seeds to run.")] = 500,
    first: Annotated[int, typer.Option("--from", metavar="S", min=0, help="The first of them.")] = 0,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="S", min=0, help="Run this one again, and print its trace.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="N", min=1, help="In so many processes; else one for each core.")
    ] = None,
    explore: Annotated[
        bool,
        typer.Option("--explore", help="Explore small worlds instead: every order of events, each situation once."),
    ] = False,
    long: Annotated[bool, typer.Option("--long", help="Explore the larger worlds too: hours.")] = False,
    fronts: Annotated[int | None, typer.Option(metavar="N", min=1, help=WORLD.format("front ends"))] = None,
    backs: Annotated[int | None, typer.Option(metavar="N", min=1, help=WORLD.format("back ends"))] = None,
    purges: Annotated[int | None, typer.Option(metavar="N", min=0, help=WORLD.format("purges"))] = None,
    faults: Annotated[int | None, typer.Option(metavar="N", min=0, help=WORLD.format("faults at most"))] = None,
    parts: Annotated[int | None, typer.Option(metavar="N", min=1, help=WORLD.format("parts of a copy"))] = None,
    lasting: Annotated[
        bool | None,
        typer.Option("--lasting", help="Explore one world: an upload in parts can be taken over (or in 2 parts)."),
    ] = None,
    lies: Annotated[
        bool | None,
        typer.Option(
            "--lies", help="Explore one world: Redis may bring old entries back, as one of its faults (or 1)."
        ),
    ] = None,
    diagram: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the diagram of a violation goes.")] = None,
) -> None:
    """Run the mirror in a virtual world where things go wrong; end with 1 if an invariant does not hold."""
    if explore:
        _refuse(ctx, ("seeds", "first", "seed"), "is for runs by chance: leave --explore or it out")
        if long:
            _refuse(ctx, ONE_WORLD, "is for one world: leave --long or it out")
        from cloud_mirror_command import explore as exploration

        given = {"fronts": fronts, "backs": backs, "purges": purges, "faults": faults, "parts": parts}
        given |= {"lasting": lasting, "lies": lies}
        raise typer.Exit(exploration.explore(exploration.one_world(given), jobs, diagram, long=long))

    _refuse(ctx, EXPLORING, "is for exploring: add --explore, or leave it out")
    if seed is not None:
        _refuse(ctx, ("seeds", "first", "jobs"), "is for many runs: leave --seed or it out")
    from cloud_mirror_command import simulate as simulation

    raise typer.Exit(simulation.many(first, seeds, jobs) if seed is None else simulation.replay(seed))


def _refuse(ctx: typer.Context, names: Collection[str], why: str) -> None:
    """Complain of an option that was given and would not be heeded."""
    for option in ctx.command.params:
        source = ctx.get_parameter_source(option.name) if option.name in names else None
        if source is not None and source.name == "COMMANDLINE":
            raise Complaint(f"{option.opts[0]} {why}")


def main() -> None:
    """The entry point."""
    app()
