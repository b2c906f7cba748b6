"""Versions of packages, whether they are installed or only importable."""

import importlib
import importlib.metadata
import platform

# Where the module of a package does not have its name.
_MODULES = {"orbax-checkpoint": "orbax.checkpoint", "scikit-learn": "sklearn"}


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of packages; "unknown" for one that tells none."""
    return {"python": platform.python_version()} | {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # imported from a checkout, say
        try:
            module = importlib.import_module(_MODULES.get(package, package.replace("-", "_")))
        except ImportError:
            return "unknown"
        return str(getattr(module, "__version__", "unknown"))
