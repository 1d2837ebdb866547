"""The checks, each in the module of its kind; whatever stands here is part of the scorecard."""

import importlib
import pkgutil

# It says where `local` is, for whichever check comes first.
from .. import servers  # noqa: F401

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
