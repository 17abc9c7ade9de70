from setuptools import find_packages, setup

# The top-level `models/` ships as `spherecv.models`; setup.cfg alone cannot map a folder to a package under another.
setup(
    packages=[*find_packages(include=["spherecv", "spherecv.*"]), "spherecv.models"],
    package_dir={"spherecv.models": "models"},
)
