"""The commands that take their time to start: typer and its help.

Exit status: 0 done; 1 the node refused, or there is no such thing; 2 the command line or the configuration is
wrong; 3 no node answers.
"""

import typer

from holdfast.cli import doctor, manage, setup, show, state, trace, why

app = typer.Typer(
    name="holdfast",
    help="L2TP LNS and LAC whose subscribers stay connected when an endpoint crashes, is upgraded or moves.",
    epilog="Exit status: 0 done, 1 refused or not found, 2 wrong usage or configuration, 3 no node answers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

setup.add_to(app)
doctor.add_to(app)
show.add_to(app)
manage.add_to(app)
state.add_to(app)
why.add_to(app)
trace.add_to(app)
