"""conda.py RECIPE OUTPUT: renders the recipe as conda-forge would, then builds the package and runs the recipe's own tests.

No channel of packages is at hand: for the build, nothing is required, and compilers and make are the machine's own.
"""

import os
import sys

from rattler_build import EnvironmentIsolation, Stage0Recipe, ToolConfiguration, VariantConfig

CONDA_FORGE = {
    "c_compiler": ["gcc"],
    "c_stdlib": ["sysroot"],
    "c_stdlib_version": ["2.17"],
    "rust_compiler": ["rust"],
}
file, output = sys.argv[1:]
recipe = Stage0Recipe.from_file(file)
(rendered,) = recipe.render(VariantConfig(CONDA_FORGE))
for requirement in rendered.recipe.requirements.to_dict()["build"]:
    print("build requires", requirement)

with open(file) as text:
    parts = text.read().split("\n\n")
here = [part for part in parts if not part.startswith("requirements:")]
source = f"path: {os.path.realpath('.')}"
here = "\n\n".join(here).replace("path: ../..", source)
recipe = Stage0Recipe.from_yaml(here, recipe_dir=os.path.join(output, "recipe"))
(result,) = recipe.run_build(
    tool_config=ToolConfiguration(test_strategy="native"),
    output_dir=output,
    channels=[],
    env_isolation=EnvironmentIsolation.NONE,
    no_include_recipe=True,
)
(package,) = result.packages
print("built", os.path.basename(package))
