"""torchrun, but where a rank ended on purpose its exit status is the rank's, not always 1."""

from __future__ import annotations

import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

ON_PURPOSE = (2, 75)  # bad input, stopped on request: the rank has said what there is to say


def main() -> None:
    try:
        run.main(sys.argv[1:])
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode not in ON_PURPOSE:
            raise
        sys.exit(failure.exitcode)


if __name__ == "__main__":
    main()
