"""The packages of a wheel; all else about the project is in pyproject.toml.

Cards, configurations and the sbatch template lie in folders of their own in a clone. In a wheel
they are data of the package, below sms_dist/share: `sms_dist.base.shipped` knows both places.
"""

from setuptools import find_packages, setup

SHIPPED = {
    "sms_dist.share.data": ("data", ["*.yaml"]),
    "sms_dist.share.configs": ("configs", ["*.yaml"]),
    "sms_dist.share.slurm": ("slurm", ["template.sbatch"]),
    "sms_dist.share.slurm.clusters": ("slurm/clusters", ["*.yaml"]),
}

setup(
    packages=[*find_packages(include=["sms_dist", "sms_dist.*"]), *SHIPPED],
    package_dir={name: folder for name, (folder, _) in SHIPPED.items()},
    package_data={
        "sms_dist": ["py.typed"],
        **{name: patterns for name, (_, patterns) in SHIPPED.items()},
    },
    include_package_data=False,
)
