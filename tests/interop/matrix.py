"""What the cells of the restart matrix are parametrised by: one value in make test-interop, all in its full form."""

import pytest

from interop.faults import HALF_MADE

full = pytest.mark.full

after_a_while = pytest.mark.parametrize(
    "seconds", [pytest.param(0, marks=full), 5, pytest.param(20, marks=full)]
)
"""How long the outage lasts; for most cells 5 s."""

at_once = pytest.mark.parametrize("seconds", [0, pytest.param(5, marks=full), pytest.param(20, marks=full)])
"""The same, where the one is that the restart follows the kill at once."""

while_half_made = pytest.mark.parametrize(
    "moment", [pytest.param(moment, marks=() if moment == "lcp" else full) for moment in HALF_MADE]
)
"""How far a call has come."""
