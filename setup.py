"""What pyproject.toml cannot say: configs/ is within the package in a wheel, and beside it in a clone."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["ektf_jax*"]), "ektf_jax.configs", "ektf_jax.configs.datasets"],
    package_dir={"ektf_jax.configs": "configs"},
)
