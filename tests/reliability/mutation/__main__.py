"""``python -m tests.reliability.mutation [MODULE ...]``: mutate, run the tests, write ``mutation.json``.

Needs Cosmic Ray (``pip install cosmic-ray``) and a geomcheck that is installed with its tests' requirements.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.reliability.mutation.fresh import copy_of, survives
from tests.reliability.mutation.record import MutantRun, save, stored
from tests.reliability.mutation.targets import ROOT, Target, targets

PLUGINS = ("-p", "no:cacheprovider", "-p", "tests.reliability.mutation.loop")


def main() -> int:
    """Run the targets whose path contains one of the words given; 0 where no mutant survives unexplained."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="parts of the paths of the modules to mutate (default: all)")
    parser.add_argument("--again", action="store_true", help="run only the mutants that survived the last time")
    parser.add_argument("--functions", action="store_true", help="leave out the mutants that act at import")
    arguments = parser.parse_args()
    wanted = arguments.modules
    runs = []
    with copy_of(ROOT) as copy:
        for target in targets():
            if not wanted or any(word in target.path for word in wanted):
                run = _run(target, copy, again=arguments.again, at_import=not arguments.functions)
                save(run)
                print(run.line, flush=True)
                for survivor in run.unexplained:
                    print(f"    {survivor['line']} {survivor['where']}: {survivor['before']}  ->  {survivor['after']}")
                runs.append(run)
    return int(any(run.unexplained for run in runs))


def _run(target: Target, copy: Path, *, again: bool, at_import: bool) -> MutantRun:
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch) / "results.jsonl"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *PLUGINS, f"--basetemp={scratch}/tests", *target.tests],
            cwd=ROOT,
            env={
                **os.environ,
                "GEOMCHECK_MUTATED": target.path,
                "GEOMCHECK_MUTATION_RESULTS": str(results),
                "GEOMCHECK_MUTATION_AGAIN": "again" if again else "",
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if not results.exists():
            raise SystemExit(f"{target.path}: the tests did not run\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        mutants = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    kept = [mutant for mutant in mutants if at_import or mutant["outcome"] != "at definition"]
    if any(mutant["outcome"] == "at definition" for mutant in kept):
        original = (copy / target.path).read_text(encoding="utf-8")
        if not survives(copy, target.path, original, target.tests):
            raise SystemExit(f"{target.path}: the tests fail on a copy of the sources")
    for mutant in kept:
        _settle(mutant, target, copy)
    earlier = stored()["modules"][target.path]["killed"] if again else 0
    return MutantRun(target, tuple(kept), earlier, left_out=len(mutants) - len(kept))


def _settle(mutant: dict[str, Any], target: Target, copy: Path) -> None:
    """Judge in a new process what acts at import."""
    source = mutant.pop("source", "")
    if mutant["outcome"] == "at definition":
        mutant["outcome"] = "survived" if survives(copy, target.path, source, target.tests) else "killed"


if __name__ == "__main__":
    sys.exit(main())
