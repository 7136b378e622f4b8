"""What is misspelt or not there is refused before torch is loaded, which takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_TINY = Path(__file__).parents[2] / "configs/tiny.yaml"
_REFUSED = {
    "train TINY selctor.k=3": "unknown key 'selctor'",
    "train nowhere.yaml": "nowhere.yaml: no such config file; what is there: ls ",
    "train TINY data.train=nowhere.jsonl": "nowhere.jsonl: no such file",
    "train TINY selector.model=./nowhere": "./nowhere: no such checkpoint folder",
    "train TINY --dry-run top_n=1": "top_n",
    "plan TINY selctor.k=3": "unknown key 'selctor'",
    "answer nowhere why?": "nowhere: neither a run folder nor an exported one",
    "chat nowhere": "nowhere: neither a run folder nor an exported one",
    "evaluate nowhere": "nowhere: neither a run folder nor an exported one",
    "diagnose nowhere": "nowhere: neither a run folder nor an exported one",
    "report nowhere": "nowhere: neither a run folder nor an exported one",
    "serve nowhere": "nowhere: neither a run folder nor an exported one",
    "merge nowhere": "nowhere: neither a run folder nor an exported one",
    "export nowhere out": "nowhere: neither a run folder nor an exported one",
    "retriever train nowhere": "nowhere: neither a run folder nor an exported one",
    "watch nowhere": "nowhere: neither a run folder nor an exported one",
    "answer RUN why? --stage iteration-9": "no such checkpoint (kept: best, warm-up, iteration-10",
    "answer BEGUN why?": "has not got so far; resume it with the command that began it and resume=True;",
    "serve BEGUN --stage iteration-2": "iteration-2: the run has not got so far; resume it with the",
    "answer TINY why?": "tiny.yaml: neither a run folder nor an exported one (a file, not a folder);",
    "answer RUN why? --stage iteration-2": "iteration-2: has no generator; take another stage: best, warm-up",
    "answer RUN why? --stage best-one": "stage: must be best, warm-up, vanilla or iteration-N (value: 'best-",
    "chat RUN --stage iteration-9": "iteration-9: no such checkpoint",
    "evaluate RUN --data nowhere.jsonl": "nowhere.jsonl: no such file",
    "answer RUN why? --corpus nowhere.jsonl": "nowhere.jsonl: no such file",
    "answer RUN why? --passages nowhere.jsonl": "nowhere.jsonl: no such file",
    "answer EXPORTED why? --stage iteration-1": "is an exported folder: its one pair has no stages",
    "serve EXPORTED --compare": "--compare: ",
    "report EXPORTED": "is an exported folder; give the run that it was exported from",
    "watch EXPORTED": "is an exported folder; give the run that it was exported from",
    "diagnose RUN --data nowhere.jsonl": "nowhere.jsonl: no such file",
    "serve RUN --corpus nowhere.jsonl": "nowhere.jsonl: no such file",
    "init c.yaml --train nowhere.jsonl --validation x --corpus y --model tiny:base": "nowhere.jsonl: no such",
    "index --corpus nowhere.jsonl --out index": "nowhere.jsonl: no such file",
    "retrieve --questions nowhere.jsonl --out c.jsonl --corpus tiny:corpus": "nowhere.jsonl: no such file",
    "retrieve --questions tiny:test --index nowhere --out c": "no such index; what is there: ls .; build one",
    "retrieve --questions tiny:test --index RUN --out c": "the folder holds no index; build one: ragdro",
    "score --data tiny:test --predictions run": "is a folder; name a file in it: ls run",
    "data convert own.jsonl --out own.jsonl": "own.jsonl: is read by this command, and would be lost; name",
    "data convert beir --out beir/corpus.jsonl --corpus": "beir/corpus.jsonl: is read by this command, and",
    "retrieve --questions own.jsonl --corpus tiny:corpus --out ./own.jsonl": "own.jsonl: is read by this",
    "retrieve --questions tiny:test --corpus own.jsonl --out own.jsonl": "own.jsonl: is read by this command",
    "score --data own.jsonl --predictions x --export kilt --out own.jsonl": "own.jsonl: is read by this",
    "evaluate RUN --data own.jsonl --out own.jsonl": "own.jsonl: is read by this command, and would be lost",
    "data convert own.jsonl --out .": ".: is a folder; name a file in it",
    "retrieve --questions tiny:test --corpus tiny:corpus --out beir": "beir: is a folder; name a file in it",
    "score --data own.jsonl --predictions x --export kilt --out .": ".: is a folder; name a file in it",
    "evaluate RUN --data own.jsonl --out ..": "..: is a folder; name a file in it",
    "data passages --kind qdrant --out .": ".: is a folder; name a file in it",
    "init . --overwrite --train own.jsonl": ".: is a folder; name a file in it, such as config.yaml",
    "runs nowhere": "nowhere: no such folder; what is there: ls .",
    "train TINY selector.model=run/checkpoints": "a folder without config.json, so no model's; what is",
    "train TINY generator.model=./exportd": "no such checkpoint folder; did you mean exported? what is there",
    "study nonesuch": "nonesuch",
}
_SCRIPT = """
import json, sys
from typer.testing import CliRunner
from ragdro.cli import app
said = {}
for command in json.loads(sys.stdin.read()):
    done = CliRunner().invoke(app, command)
    said[" ".join(command)] = [str(done.exception), done.output, "torch" in sys.modules]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str, bool]]:
    """What each command says, and whether torch was loaded by then: all in one process, for it takes long to
    start, in the order above."""
    folder = tmp_path_factory.mktemp("refused")
    from ragdro.config import dump_config, load_config

    whole = (
        "run/best",
        "run/checkpoints/iteration-0",
        "run/checkpoints/iteration-10",
        "begun/checkpoints/iteration-0",
    )
    half = ("run/checkpoints/iteration-2", "begun/checkpoints/iteration-2", "exported")  # no generator yet
    for name in (*(f"{pair}/generator" for pair in whole), *(f"{pair}/selector" for pair in (*whole, *half))):
        (folder / name).mkdir(parents=True)
    for name in ("run", "begun", "exported"):
        (folder / name / "config.yaml").write_text(dump_config(load_config(_TINY)))
    (folder / "run/results.json").write_text("{}")
    (folder / "beir").mkdir()
    for name in ("own.jsonl", "beir/corpus.jsonl"):
        (folder / name).write_text('{"question": "q", "answers": ["a"]}\n')
    places = {
        "TINY": str(_TINY),
        **{name.upper(): str(folder / name) for name in ("run", "begun", "exported")},
    }
    commands = [[places.get(word, word) for word in command.split()] for command in _REFUSED]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    return dict(zip(_REFUSED, said.values(), strict=True))


@pytest.mark.parametrize("command", _REFUSED)
def test_it_is_refused_in_one_line_without_torch(
    command: str, refused: dict[str, tuple[str, str, bool]]
) -> None:
    error, output, torch = refused[command]
    assert _REFUSED[command] in error and "\n" not in error, (error, output)
    assert not torch


def test_a_warning_of_ours_is_one_line_without_a_place_in_the_code() -> None:
    warn = (
        "import warnings; from ragdro import cli; from ragdro.errors import RagdroWarning;"
        "cli.app = lambda **_: (warnings.warn('cut:\\n  12', RagdroWarning), warnings.warn('theirs'));"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", warn], capture_output=True, text=True, check=True)
    ours, theirs = done.stderr.splitlines()[:2]
    assert ours == "ragdro: note: cut: 12"
    assert theirs.endswith("UserWarning: theirs")


def test_what_the_library_logs_is_a_note_in_one_line() -> None:
    log = (
        "import logging; from ragdro import cli;"
        "cli.app = lambda **_: (logging.getLogger('ragdro.x').warning('left out:\\n %d', 3),"
        " logging.getLogger('ragdro.x').info('not this'));"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", log], capture_output=True, text=True, check=True)
    assert done.stderr == "ragdro: note: left out: 3\n"


def test_too_little_memory_is_one_line_wherever_it_shows() -> None:
    fail = (
        "import numpy as np; from ragdro import cli;"
        "cli.app = lambda **_: np.zeros(1 << 50);"  # 8 PiB, more than an address reaches
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", fail], capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("ragdro: error: out of memory (Unable to allocate")
    assert "e_step.samples" in line
