"""What /healthz and /readyz say."""

from __future__ import annotations

from bridge.postgres.schema import GRANT
from bridge.server.runtime import Runtime

__all__ = ["readiness"]


def readiness(runtime: Runtime) -> tuple[bool, dict[str, object]]:
    """Tell whether a worker should get traffic, and which part stops it.

    Returns:
        Ready or not, and the report: `ready`, `reason` when it is not,
        `degraded` when it is and something is not served, and each part's state
        with the Unix seconds since when it has been so.
    """
    pool, journal, connections = runtime.pool, runtime.journal, runtime.connections
    if pool is None or journal is None or connections is None:
        return False, {"ready": False, "reason": "not started"}
    reason = None
    if runtime.draining:
        reason = "draining"
    elif not pool.live:
        reason = "listeners: PostgreSQL is away"
    elif not (journal.live or journal.degraded):
        reason = "journal: it cannot be read"
    elif connections.full:
        reason = "connections: full"
    report: dict[str, object] = {"ready": reason is None}
    if reason is not None:
        report["reason"] = reason
    elif journal.degraded:
        report["degraded"] = f"no durable channels: {GRANT}"
    report["listeners"] = pool.describe()
    report["journal"] = journal.describe()
    if runtime.sequencer is not None:
        report["sequencer"] = runtime.sequencer.describe()
    report["connections"] = {
        "open": len(connections),
        "max": connections.max_connections,
    }
    return reason is None, report
