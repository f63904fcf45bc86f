"""The version of Penstock: that of the installed package, or of the data plane in a source tree."""

from importlib import metadata

try:
    __version__ = metadata.version("penstock")
except metadata.PackageNotFoundError:
    from penstock.engine import native_version

    __version__ = native_version()
