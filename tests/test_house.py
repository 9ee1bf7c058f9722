"""The rules of the house that no other tool checks."""

import ast
import re
import statistics
import subprocess
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("data_mixtures", "vla", "lam", "distill", "eval", "recipes")
TEXT_SUFFIXES = {".py", ".yaml", ".yml", ".toml", ".md", ".sh", ".txt", ".cff", ".sbatch", ".json", ""}

JUNK_DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc", "tools", "stuff"}
SIMULATORS = {"metaworld", "mujoco", "gymnasium", "libero", "robosuite", "mani_skill2_real2sim", "sapien", "OpenGL"}
OPENGL = {"OpenGL"}  # comes with MuJoCo
TORCHVISION_USERS = {"torchvision", "timm", "transformers", "diffusers"}
# Objects that a process sends to processes it started itself are no pickles from outside.
SENDS_TO_ITS_OWN = {"data_mixtures/sampling/workers.py"}
# LIBERO ships its initial states as pickles and CALVIN its annotations; what reads them makes arrays of numbers, or
# inert stand-ins, and nothing else.
UNPICKLES_NUMBERS = {"eval/libero/initial_states.py", "data_mixtures/readers/calvin_language.py"}
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}

# Written as the package it stands for, whose module names are not ours.
STAND_INS = "tests/eval/simpler/fake/"

# Places that exist on one machine only. `/tmp` is left out: it is everywhere.
MACHINE_PATH = re.compile(r"(?<![\w.$}/])/(?:work|root|home|Users|mnt|data|scratch|opt)/[\w.-]+")

RECIPE_HEAD = ("Trains", "Hardware", "Time", "Expected", "Source")


def tracked(*patterns: str) -> list[Path]:
    """Files under version control or about to be: what git lists and does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout: " + listed.stderr.strip())
    return sorted({ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()})


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported_packages(nodes: list[ast.stmt] | list[ast.AST]) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def nodes_that_run(tree: ast.Module, functions: bool) -> list[ast.AST]:
    """Every node outside `if TYPE_CHECKING`, with or without the bodies of functions."""
    waiting: list[ast.AST] = list(tree.body)
    reached: list[ast.AST] = []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not functions:
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
            continue
        reached.append(node)
        waiting.extend(ast.iter_child_nodes(node))
    return reached


def module_level_imports(tree: ast.Module) -> set[str]:
    return imported_packages(nodes_that_run(tree, functions=False))


def test_no_junk_drawers():
    offenders = [
        name_of(path)
        for path in python_files(*PACKAGES, "tests", "benchmarks")
        if JUNK_DRAWERS & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}
        and not name_of(path).startswith(STAND_INS)
    ]
    assert not offenders, f"name these after what is in them: {offenders}"


def test_no_file_is_longer_than_a_sitting():
    lengths = {
        name_of(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files(*PACKAGES, "tests", "benchmarks")
    }
    assert not {name: lines for name, lines in lengths.items() if lines > 600}
    assert statistics.median(lengths.values()) <= 200


def test_functions_stay_small():
    lengths = {
        f"{name_of(path)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in python_files(*PACKAGES)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > 120}
    assert statistics.median(lengths.values()) <= 15


def test_every_module_says_what_it_is():
    silent = [name_of(path) for path in python_files(*PACKAGES, "benchmarks") if not ast.get_docstring(tree_of(path))]
    assert not silent, f"no module docstring: {silent}"


def test_no_path_of_one_machine():
    found = {}
    for path in tracked():
        if path.suffix not in TEXT_SUFFIXES or path == Path(__file__).resolve():
            continue
        hits = MACHINE_PATH.findall(path.read_text(encoding="utf-8", errors="replace"))
        if hits:
            found[name_of(path)] = hits
    assert not found, f"paths that exist on one machine only: {found}"


def test_the_machine_path_pattern_knows_one():
    assert MACHINE_PATH.findall('root = "/home/someone/data"')
    assert MACHINE_PATH.findall("cd /work/vla")
    assert not MACHINE_PATH.findall("runs/data/episodes and https://host/home/page")


def test_no_simulator_is_imported_with_the_command_line():
    """What runs in a simulator's own Python is named by a string, so nothing here leads to it."""
    found = {
        name_of(path): SIMULATORS & module_level_imports(tree_of(path))
        for path in reachable(python_files("recipes", "eval/engine", "eval/report", "eval/results", "eval/preflight"))
    }
    assert len(found) > 100
    assert not {name: hits for name, hits in found.items() if hits}, (
        "import simulators inside the function that needs one"
    )


def reachable(paths: list[Path]) -> set[Path]:
    """These files and every file of ours that one of them imports, wherever in it."""
    waiting, reached = list(paths), set()
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += [file for name in own_modules(tree_of(path)) for file in files_of(name)]
    return reached


def own_modules(tree: ast.Module) -> set[str]:
    nodes = nodes_that_run(tree, functions=True)
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    names = {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
    names |= {str(node.module) for node in froms}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name for name in names if name.partition(".")[0] in PACKAGES}


def files_of(module: str) -> list[Path]:
    place = ROOT.joinpath(*module.split("."))
    return [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]


def test_users_of_torchvision_ensure_its_operators_first():
    """A torchvision that cannot load breaks the import of these, unless its operators are defined before."""
    call = "ensure_torchvision_operators()"
    late = []
    for path in python_files(*PACKAGES):
        lines = path.read_text(encoding="utf-8").splitlines()
        users = [
            node.lineno
            for node in nodes_that_run(tree_of(path), functions=True)
            if isinstance(node, ast.Import | ast.ImportFrom) and TORCHVISION_USERS & imported_packages([node])
        ]
        ensured = [number for number, line in enumerate(lines, start=1) if line.strip() == call]
        if users and not (ensured and min(ensured) < min(users)):
            late.append(f"{name_of(path)}:{min(users)}")
    assert not late, f"call {call} (vla/nn/torchvision_ops.py) before these imports: {late}"


def test_the_simulator_check_sees_nested_statements():
    source = "try:\n    import mujoco\nexcept ImportError:\n    pass\ndef f():\n    import metaworld\n"
    assert module_level_imports(ast.parse(source)) == {"mujoco"}


def test_nothing_is_unpickled_and_no_remote_code_runs():
    found = []
    for path in python_files(*PACKAGES):
        tree = tree_of(path)
        if name_of(path) not in SENDS_TO_ITS_OWN | UNPICKLES_NUMBERS:
            imported = imported_packages(list(ast.walk(tree)))
            found += [f"{name_of(path)}: import {name}" for name in imported & UNPICKLERS]
        found += [f"{name_of(path)}:{call.lineno} {words}" for call, words in _unsafe_calls(tree)]
    assert not found


def _unsafe_calls(tree: ast.Module) -> list[tuple[ast.Call, str]]:
    unsafe = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function = ast.unparse(call.func)
        given = {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg}
        if function == "torch.load" and given.get("weights_only") != "True":
            unsafe.append((call, "torch.load without weights_only=True"))
        if function.endswith(("np.load", "numpy.load")) and given.get("allow_pickle") == "True":
            unsafe.append((call, "np.load with allow_pickle"))
        if function in {"yaml.load", "yaml.unsafe_load", "yaml.full_load"}:
            unsafe.append((call, f"{function}: use yaml.safe_load"))
        if given.get("trust_remote_code") == "True":
            unsafe.append((call, "trust_remote_code=True"))
    return unsafe


def test_the_safety_check_knows_an_unsafe_call():
    source = "torch.load(p)\nyaml.load(f)\nnp.load(p, allow_pickle=True)\nx.from_pretrained(n, trust_remote_code=True)"
    assert len(_unsafe_calls(ast.parse(source))) == 4
    assert not _unsafe_calls(ast.parse("torch.load(p, weights_only=True)\nyaml.safe_load(f)\nnp.load(p)"))


def test_every_recipe_promises_a_number():
    recipes = [path for path in sorted((ROOT / "recipes").rglob("*.yaml")) if "launch" not in path.parts]
    assert recipes, "no recipe found"
    missing = {}
    for path in recipes:
        head = re.match(r"(?:#.*\n|\n)*", path.read_text(encoding="utf-8"))
        text = head.group() if head else ""
        absent = [field for field in RECIPE_HEAD if not re.search(rf"^# {field}:\s+\S", text, flags=re.MULTILINE)]
        if absent:
            missing[name_of(path)] = absent
    assert not missing, f"a recipe's head has lines `# Trains: ...` and so on; missing: {missing}"


def test_what_we_import_is_declared():
    """Every third-party package that library code imports is a dependency, under its distribution's name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=!~\[; ]", line)[0].lower().replace("_", "-") for line in project["dependencies"]}
    distributions = packages_distributions()
    undeclared = {}
    for path in python_files(*PACKAGES):
        for name in imported_packages(list(ast.walk(tree_of(path)))) - set(PACKAGES) - OPENGL:
            owners = {owner.lower().replace("_", "-") for owner in distributions.get(name, [])}
            if owners and not owners & declared:
                undeclared.setdefault(name, []).append(name_of(path))
    assert not undeclared, f"add to pyproject.toml's dependencies: {undeclared}"


def test_constraints_pin_every_dependency_inside_its_range():
    requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = requirements.Requirement(line)
        pin = pins.get(requirement.name.lower().replace("_", "-"))
        assert pin is not None, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(pin), f"constraints.txt pins {requirement.name}=={pin}, outside {line}"


def test_links_in_the_documents_lead_somewhere():
    links = [
        (path, target)
        for path in tracked("*.md")
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
    ]
    broken = [f"{name_of(p)}: {to}" for p, to in links if "://" not in to and not (p.parent / to).exists()]
    assert not broken


def test_no_figure_is_still_to_be_measured():
    promised = [*tracked("*.md"), *tracked("recipes/*.yaml")]
    open_places = [name_of(path) for path in promised if "TODO-MEASURED" in path.read_text(encoding="utf-8")]
    assert not open_places, f"measure, and write the figures down: {open_places}"
