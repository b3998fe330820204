"""Whether a policy can be loaded: `python -m bridge.access.load PATH`.

Prints why not, as its last line.
"""

from __future__ import annotations

import sys

from gevent import monkey

__all__ = ["main"]


def main(path: str) -> int:
    """Load it as a worker would; 1 when that fails."""
    monkey.patch_all()
    from bridge.access.policy import load_policy

    try:
        load_policy(path)
    except ValueError as exc:
        print(" ".join(str(exc).split()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
