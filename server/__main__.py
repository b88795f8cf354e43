"""The `parley` command, also as `python -m server`; survives being badly installed."""

import gc
import sys

from parley_main import find_packages_at_home
from server.packaging import packaging_problems


def main() -> int:
    """Run the command line and return its exit code; 2 if the packages are not Parley's."""
    find_packages_at_home()
    gc.disable()  # hardly anything imported is garbage: each pass over it takes a tenth of the start
    try:
        from server import cli  # noqa: PLC0415 - what it imports may have been overwritten
    except ImportError:
        problems = list(packaging_problems())
        if not problems:
            raise
        print("parley:", "; ".join(problems), file=sys.stderr)
        return 2
    finally:
        gc.freeze()  # no pass looks at it later, either
        gc.enable()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
