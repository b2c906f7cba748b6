"""EKTF in PyTorch, as its authors write it with FuxiCTR: a loop over students, a double loop over pairs.

Reads one JSON object, a line of stdin, as `benchmarks.common.peer` makes it, and prints one. It needs torch
and of this repository only `pytorch/` beside it, so that any interpreter can run it; whole epochs and runs
(`epoch`, `fit`) read their rows with FuxiCTR's loader (`pip install ektf-jax[peers]`). Layers, penalty,
clipping and Adam are those of FuxiCTR 2.3.10 in plain torch: from the same weights and seeds, with dropout,
five steps of three MLPs end in the same bits as FuxiCTR's, those of EKTF_Latest in losses that differ by
1e-5; neither side's step takes longer.
"""

import json
import platform
import resource
import sys
import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from benchmarks.pytorch.model import EKTF
    from benchmarks.pytorch.tasks import TASKS
else:  # run as a file: `benchmarks` would start this process anew with our allocator's settings
    from pytorch.model import EKTF
    from pytorch.tasks import TASKS

IMPORTED_AT = time.time()


def main() -> None:
    """Do one task."""
    task = json.loads(sys.stdin.readline())
    torch.manual_seed(task.get("seed", 0))
    model = EKTF(task)
    built_at = time.time()
    result = TASKS[task["task"]](model, task)
    result |= {"imported_at": IMPORTED_AT, "built_at": built_at}
    result["params"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    result["threads"] = torch.get_num_threads()
    result["versions"] = {"python": platform.python_version(), "torch": torch.__version__}
    if "fuxictr" in sys.modules:
        result["versions"]["fuxictr"] = sys.modules["fuxictr"].__version__
    print(json.dumps(result))


if __name__ == "__main__":
    main()
