"""Names that other libraries do not promise: which are used, and what breaks where one is gone."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "ragdro"
USED = {
    "_attn_implementation": (
        "transformers.PretrainedConfig",
        "which attention runs (lm/attention.py)",
    ),
    "_no_split_modules": ("transformers.PreTrainedModel", "what a decoder layer is (lm/exact.py, parallel/)"),
    "_model_mapping": (
        "transformers.AutoModelForCausalLM",
        "what is a causal LM (planning/roles.py)",
    ),
    "_dynamo": ("torch", "the base model's build leaves compilation errors alone (tiny/base.py)"),
    "torch._subclasses.fake_tensor": ("FakeTensorMode", "plans compute without data (planning/)"),
    "torch.utils._python_dispatch": ("TorchDispatchMode", "plans follow live bytes (planning/live.py)"),
    "torch.utils._pytree": ("tree_leaves", "plans follow live bytes (planning/live.py)"),
}
PUBLIC = {"_asdict", "_current_frames", "_exit"}
"""Documented names of the standard library that begin with an underscore."""


def names_used() -> set[str]:
    """Private attributes of what is not our own, and modules with a private part, in all of the package."""
    used: set[str] = set()
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in SOURCE.rglob("*.py")]
    ours = {
        name
        for tree in trees
        for node in ast.walk(tree)
        for name in (
            [node.name] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            else [node.attr] if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            else [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
            else []
        )
    }  # fmt: skip
    for tree in trees:
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module
                and not node.module.startswith(("ragdro", "__"))
            ):
                private = any(part.startswith("_") for part in node.module.split("."))
                used |= {node.module} if private else set()
                used |= {alias.name for alias in node.names if alias.name.startswith("_")}
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and node.attr not in ours:
                used |= set() if node.attr.startswith("__") else {node.attr}
    return used - PUBLIC


def test_no_other_private_names_are_used_than_those_listed() -> None:
    assert names_used() == set(USED)


@pytest.mark.parametrize("name", USED)
def test_a_private_name_is_still_there(name: str) -> None:
    owner, purpose = USED[name]
    if name.startswith("torch."):
        assert hasattr(import_module(name), owner), f"{name}.{owner} is gone: {purpose}"
        return
    module, _, cls = owner.partition(".") if owner.count(".") < 2 else owner.rpartition(".")
    holder = import_module(module) if not cls else getattr(import_module(module), cls)
    instance = holder() if cls in ("Module", "PretrainedConfig") else holder
    assert hasattr(instance, name), f"{owner}.{name} is gone: {purpose}"
