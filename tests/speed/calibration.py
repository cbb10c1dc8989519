"""Error rates of the estimator on simulated data: ``calibration.py [--datasets N] [SCENARIO ...]``.

Prints one line per scenario and exits with 1 when a type-I error or a coverage is outside the bars of the
design (.06 and .93) by more than two Monte-Carlo standard errors.
"""

from __future__ import annotations

import argparse
import sys
import time

from xtremex.analysis.simulate import SCENARIOS, calibrate

ERROR_BAR, COVERAGE_BAR = 0.06, 0.93


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", default=["base", "S5", "noseed"], help=", ".join(SCENARIOS))
    parser.add_argument("--datasets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    passed = True
    print(f"{'scenario':<20}{'data sets':>10}{'type I':>9}{'coverage':>10}{'width, pt':>11}{'seconds':>9}")
    for name in options.scenarios:
        start = time.perf_counter()
        result = calibrate(SCENARIOS[name], options.datasets, seed=options.seed)
        slack = 2 * result.standard_error
        passed &= result.rejection <= ERROR_BAR + slack and result.coverage >= COVERAGE_BAR - slack
        print(
            f"{name:<20}{result.datasets:>10}{result.rejection:>9.3f}{result.coverage:>10.3f}"
            f"{result.mean_width:>11.2f}{time.perf_counter() - start:>9.1f}",
            flush=True,
        )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
