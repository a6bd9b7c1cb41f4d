"""How the project is installed: names, ranges of versions, the `sms-dist` command."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """The version in sms_dist/__init__.py, read as text: importing it here would need its needs."""
    text = (HERE / "sms_dist" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    assert match, "sms_dist/__init__.py states no __version__"
    return match[1]


# Ranges only: the versions that were tested are in constraints.txt and, for torch, in the Makefile.
REQUIRED = [
    "torch>=2.10",  # before it torch.load has known holes
    "torchvision",
    "deepspeed>=0.19",
    "webdataset>=1.0",
    "tensorboard>=2.21",  # older ones break beside setuptools 82
    "click>=8.1",
    "pydantic>=2.10",
    "PyYAML>=6",
    "safetensors>=0.8",
    "numpy>=1.26",
    "filelock>=3.30",
    "pillow",
    "scipy>=1.10",  # the names of ImageNet's classes are a .mat file
    "rich>=13",
    "scikit-learn>=1.4",  # the embedded digits
]
PLOTS = ["matplotlib>=3.8"]
TEXT = [
    "transformers>=5,<6",  # T5
    "sentencepiece>=0.2",
    "sacrebleu>=2.4",
]
TIMM = ["timm>=1.0"]
EXTRAS = {
    "dev": [
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "hypothesis",
        "ruff",
        "mypy",
        "pre-commit",
        "types-PyYAML",
        *PLOTS,
        *TEXT,
        *TIMM,
    ],
    "plots": PLOTS,
    "text": TEXT,
    "timm": TIMM,
}

setup(
    name="sms_dist",
    version=version(),
    description="Sparse Model Soups: prune, retrain m copies in parallel, average, prune harder",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["sms_dist*", "launcher*", "data*"]),
    package_data={"sms_dist": ["py.typed"]},
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["sms-dist = launcher.cli:main"]},
)
