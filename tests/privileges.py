"""For tests of what somebody may not do, where root runs them, who may everything."""

from __future__ import annotations

import os


def without(*capabilities: str) -> list[str]:
    """What stands in front of a command so that it has none of these capabilities; for root, who has them.

    By the names of setpriv(1): ``dac_override`` and ``dac_read_search`` to read any file, ``sys_ptrace`` to look into
    any process (newer kernels ask for ``perfmon`` and ``sys_admin`` too).
    """
    if os.geteuid() != 0:
        return []
    dropped = ",".join(f"-{capability}" for capability in capabilities)
    return ["setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}"]
