"""Runs a command and adds a last line to what it prints: {"wall_seconds", "peak_bytes"}.

    python -S bench/peak.py COMMAND...

A small process of its own, since what the system says of a child's memory is never less than its parent's."""

import json
import os
import sys
import time

begin = time.perf_counter()
_, status, used = os.wait4(os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ), 0)
print("\n" + json.dumps({"wall_seconds": time.perf_counter() - begin, "peak_bytes": used.ru_maxrss * 1024}))
sys.exit(os.waitstatus_to_exitcode(status))
