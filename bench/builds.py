"""Builds of Penstock to be measured beside each other: that of a revision, and that of the working tree.

Both are made alike, with the release profile as it is written, whatever the environment says; that of the tree may be
made as releases are, too. What they need stays in `target/compare` between runs: a work tree for the revision, and for
each build a package and a target folder of its own (Cargo takes crates of the same name and version
for the same, wherever they lie).
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.launch import BenchError

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "target" / "compare"
PROFILE = ROOT / "target" / "profile" / "penstock.profdata"
"""How Penstock runs, for the compiler: `make profile` writes it, and releases are built with it."""
# Revisions whose packages are kept; the oldest go first.
KEPT = 8


@dataclass(frozen=True)
class Build:
    """A build of Penstock, and the folder that its package is imported from."""

    name: str
    path: Path


def of_revision(revision: str) -> Build:
    """The build of a revision; one that was made before costs nothing."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    if not commit:
        raise BenchError(f"{revision} is no revision of this repository")
    target = CACHE / "packages" / commit[:12]
    if not target.exists():
        source = CACHE / "source"
        if (source / ".git").exists():
            _git("-C", str(source), "checkout", "--quiet", "--force", "--detach", commit)
        else:
            _git("worktree", "prune")
            _git("worktree", "add", "--quiet", "--force", "--detach", str(source), commit)
        _package(source, CACHE / "target-base", target)
        _forget_oldest(target.parent)
    return Build(f"base {commit[:7]}", target)


def of_tree() -> Build:
    """The build of the files as they are now."""
    target = CACHE / "tree"
    _package(ROOT, CACHE / "target-tree", target)
    return Build("this tree", target)


def of_release() -> Build:
    """The build of the files as they are now that is made as releases are: for how Penstock runs (`make profile`)."""
    if not PROFILE.exists():
        raise BenchError(f"{PROFILE.relative_to(ROOT)} is not there: make profile writes it")
    target = CACHE / "release"
    _package(ROOT, CACHE / "target-release", target, f"-Cprofile-use={PROFILE}")
    return Build("as released", target)


def instrumented(folder: Path, counted: Path) -> Build:
    """The build of the files as they are now that counts what it runs, into files in `counted` when it ends."""
    _package(ROOT, folder / "objects", folder / "package", f"-Cprofile-generate={counted}")
    return Build("instrumented", folder / "package")


def _package(source: Path, objects: Path, target: Path, flags: str = "") -> None:
    """Builds the extension of `source` and puts it with its Python files into `target`; `objects` is Cargo's.

    `flags` are for the compiler of Rust.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CARGO_PROFILE_")}
    environment |= {
        "CARGO_TARGET_DIR": str(objects),
        # What maturin sets: the interpreter's symbols are found when it loads the extension.
        "PYO3_BUILD_EXTENSION_MODULE": "1",
        "PYO3_PYTHON": sys.executable,
    }
    if flags:
        environment["RUSTFLAGS"] = flags
    command = ["cargo", "build", "--quiet", "--release", "--locked", "-p", "penstock-python"]
    try:
        subprocess.run(command, cwd=source, env=environment, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise BenchError(f"{source} does not build: {error}") from None
    # Whole or not at all: a folder of this name is taken for a finished build.
    fresh = target.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(source / "python" / "penstock", fresh / "penstock", ignore=ignored)
    shutil.copy2(objects / "release" / "lib_native.so", fresh / "penstock" / "_native.abi3.so")
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _forget_oldest(packages: Path) -> None:
    by_age = sorted(packages.iterdir(), key=lambda package: package.stat().st_mtime)
    for package in by_age[:-KEPT]:
        shutil.rmtree(package)


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BenchError("git is not installed") from None
    if done.returncode and arguments[0] != "rev-parse":
        raise BenchError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout
