"""The faults, by what they happen to."""

from __future__ import annotations

from faults.cases import (
    clients,
    contents,
    database,
    journal,
    network,
    slow_pages,
    workers,
)
from faults.fault import Fault

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        *database.FAULTS,
        *journal.FAULTS,
        *network.FAULTS,
        *workers.FAULTS,
        *clients.FAULTS,
        *slow_pages.FAULTS,
        *contents.FAULTS,
    )
}
"""All of them by name, in the order of the page."""
