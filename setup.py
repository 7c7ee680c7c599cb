"""Puts the recipes, which lie beside the package in a checkout, into the wheel."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Copies configs/*.py to mcl_jax/configs/."""

    def run(self) -> None:
        """Builds the package, then adds the recipes; an editable install finds them in the checkout."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "mcl_jax" / "configs"
            self.mkpath(str(target))
            for recipe in sorted(Path("configs").glob("*.py")):
                self.copy_file(str(recipe), str(target / recipe.name))


setup(cmdclass={"build_py": BuildWithRecipes})
