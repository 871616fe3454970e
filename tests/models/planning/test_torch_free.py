"""Planning runs where there is no engine."""

import pkgutil
import subprocess
import sys

from models import planning
from tests import support

SCRIPT = """
import sys
from importlib import import_module
for name in sys.argv[1:]:
    import_module(f"models.planning.{name}")
heavy = {"torch", "safetensors", "PIL", "rich"} & set(sys.modules)
assert not heavy, heavy
"""


def test_planning_imports_no_torch():
    modules = [module.name for module in pkgutil.iter_modules(planning.__path__)]
    assert len(modules) > 4
    subprocess.run([sys.executable, "-c", SCRIPT, *modules], cwd=support.ROOT, check=True)
