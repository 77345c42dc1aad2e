"""What geomcheck runs with: ``nox -l`` lists the combinations, ``nox -s oldest`` runs one.

Each installs torch. Where only builds with CUDA are served, that brings gigabytes of packages each time: let pip
look in PyTorch's CPU wheel index too (``PIP_EXTRA_INDEX_URL``), as PyTorch's own install page gives it.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import nox

nox.options.sessions = ["oldest", "newest", "wheel"]
nox.options.error_on_missing_interpreters = False

PYTHONS = ("3.11", "3.12", "3.13")
FAST = (
    "tests/suite",
    "tests/calibration",
    "tests/measurement/test_execute.py",
    "tests/record/test_parquet.py",
    "tests/checkpoints/formats/test_safetensors.py",
    "tests/checkpoints/test_completeness.py",
    "tests/diagnostics/test_rank.py",
    "tests/stories/test_gate.py",
    "tests/stories/test_selection.py",
    # The order of keys in the editor's schema is pydantic's, and the file that is shipped comes from a newer one.
    "--deselect=tests/suite/test_schema.py::test_the_shipped_schema_is_current",
)
"""What touches every dependency of geomcheck itself, and no model of transformers."""

WRITERS = sorted(file.stem for file in Path("tests/writers/requirements").glob("*.txt"))
WRITE_WITH = {"megatron": PYTHONS[1]}
"""Frameworks that write runs for tests/writers, and those that want a newer Python than the oldest."""

TESTS_ALONE = ("hypothesis==6.100.0", "jsonschema==4.21.0", "pytest-xdist==3.5.0", "huggingface_hub==0.25.0")


def lower_bounds() -> list[str]:
    """geomcheck's dependencies, each at the lowest version that ``pyproject.toml`` allows."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = []
    for requirement in project["dependencies"]:
        name, _, version = re.split("(>=)", requirement)
        bounds.append(f"{name}=={version}")
    return bounds


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests, with what pip chooses."""
    session.install("-e", ".[test]", env={"PIP_CONSTRAINT": "constraints.txt"})
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS[0])
def weekly(session: nox.Session) -> None:
    """Tests that measure time or start training processes, by themselves, so that nothing else takes the processor."""
    session.install("-c", "constraints.txt", "-e", ".[test]")
    session.run("pytest", "-m", "weekly", *session.posargs)


@nox.session
@nox.parametrize("python,framework", [(WRITE_WITH.get(name, PYTHONS[0]), name) for name in WRITERS], ids=WRITERS)
def writers(session: nox.Session, framework: str) -> None:
    """What a real framework writes, on a CPU, is read bit for bit: ``nox -s "writers(deepspeed)"``.

    Its version is that of docs/reference/layouts.md; ``nox -s "writers(verl)" -- verl==0.9.0`` takes another.
    Nothing is installed but what its file lists: what these frameworks depend on brings CUDA.
    """
    session.install("-c", "constraints.txt", "-e", ".[test]")
    session.install("--no-deps", "-r", f"tests/writers/requirements/{framework}.txt")
    if session.posargs:
        session.install("--no-deps", *session.posargs)
    package, *_ = framework.split("-")
    session.run("python", "-c", f"import {package}")  # tests of what is not there are skipped
    session.run("pytest", "-k", package, "tests/writers")


@nox.session(python=PYTHONS[0])
def trackers(session: nox.Session) -> None:
    """What trackio, W&B (offline) and TensorBoard themselves keep of a training that was watched."""
    session.install("-c", "constraints.txt", "-e", ".[test]")
    session.install("trackio>=0.20", "wandb>=0.20")
    session.run("python", "-c", "import trackio, wandb")  # tests of what is not there are skipped
    session.run("pytest", "tests/live/loop/test_trackers.py", *session.posargs)


@nox.session(python=PYTHONS[0])
def docs(session: nox.Session) -> None:
    """The documentation, where a warning is an error."""
    session.install("-c", "constraints.txt", "-e", ".[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "docs", *(session.posargs or ["build/docs"]))


DISPATCH = {
    "least": {
        "OMP_NUM_THREADS": "1",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Haswell",
        "PYTHONDONTWRITEBYTECODE": "1",
    },
    "avx2": {
        "OMP_NUM_THREADS": "1",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Zen",
    },
    "avx512": {
        "OMP_NUM_THREADS": "2",
        "ATEN_CPU_CAPABILITY": "avx512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "OPENBLAS_CORETYPE": "SkylakeX",
    },
}
"""Threads and instructions that other people's processors, and their variables, choose."""


@nox.session(python=PYTHONS[0])
@nox.parametrize("level", list(DISPATCH))
def dispatch(session: nox.Session, level: str) -> None:
    """All tests with the threads and instructions of another machine: figures may differ, verdicts may not.

    ``nox -s "dispatch(level='least')"`` takes one; a processor that lacks instructions falls back by itself.
    """
    session.install("-c", "constraints.txt", "-e", ".[test]")
    session.run("pytest", *session.posargs, env=DISPATCH[level])


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """The lower bounds, exactly: a gate, and the tests that need no model of transformers.

    ``nox -s oldest -- torch==2.13.0`` takes another torch than the oldest.
    """
    chosen = [word for word in session.posargs if word.startswith("torch==")]
    bounds = [bound for bound in lower_bounds() if not chosen or not bound.startswith("torch==")]
    session.install(*chosen, *bounds, *TESTS_ALONE)
    session.install("--no-deps", "-e", ".")
    session.run("pytest", "--geom-run=fixtures/tiny-opd")
    session.run("pytest", *FAST)


@nox.session(python=PYTHONS[-1])
def newest(session: nox.Session) -> None:
    """All tests, with the newest of everything, unconstrained."""
    session.install("--upgrade", "--upgrade-strategy", "eager", "-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS[0])
def wheel(session: nox.Session) -> None:
    """The wheel, in an environment of its own and an empty directory: a gate that passes, and one that fails."""
    fixtures = Path("fixtures").resolve()
    empty = Path(session.create_tmp())
    session.install("build")
    session.run("python", "-m", "build", "--wheel", "--outdir", str(empty / "dist"))
    (built,) = (empty / "dist").glob("*.whl")
    session.install("-c", "constraints.txt", str(built))
    (empty / "work").mkdir(exist_ok=True)
    session.chdir(empty / "work")
    session.run("geomcheck", "suites")
    session.run(
        "pytest", f"--geom-run={fixtures / 'tiny-opd'}", f"--geom-suite={fixtures.parent / 'suites/tiny-opd.yaml'}"
    )
    session.run("pytest", f"--geom-run={fixtures / 'tiny-sft'}", "--geom-suite=opd", success_codes=[1])
