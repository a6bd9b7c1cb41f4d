"""Files that come with the code: cards of data sets, configurations, templates of jobs."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
SHARE = "share"  # the folder inside the package, where it is installed
SHIPPED = {
    "data": ("*.yaml",),
    "configs": ("*.yaml",),
    "slurm": ("template.sbatch", "clusters/*.yaml"),
}


def shipped(folder: str) -> Path:
    """Return the folder of that name: `share/` in an installed package, beside it in a clone."""
    installed = PACKAGE / SHARE / folder
    return installed if installed.is_dir() else PACKAGE.parent / folder


def package_files() -> dict[str, Path]:
    """Return the files of a wheel of this package: the path there -> the file here."""
    files = {f"{PACKAGE.name}/{p.relative_to(PACKAGE)}": p for p in PACKAGE.rglob("*.py")}
    for folder, patterns in SHIPPED.items():
        root = shipped(folder)
        for path in (path for pattern in patterns for path in root.glob(pattern)):
            files[f"{PACKAGE.name}/{SHARE}/{folder}/{path.relative_to(root)}"] = path
    return dict(sorted(files.items()))
