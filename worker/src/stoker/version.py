"""The version of this distribution, as the package metadata has it."""

from importlib.metadata import version

VERSION = version("stoker")
