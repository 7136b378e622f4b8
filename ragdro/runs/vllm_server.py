"""Sampling by a vLLM server that the run starts, on GPUs of its own, with the selector's present weights.

In: a `Config`. Out: an `Engine`. The first of the run's processes starts the server with the first E-step and
gives it new weights before each other one, while it waits between them; all processes ask it for their own
questions. A selector that is trained whole is saved where vLLM loaded it from, and vLLM reads it again
(`reload_weights`); of one with an adapter the server has the base, and loads each E-step's adapter under a
name of its own (https://docs.vllm.ai/en/latest/features/lora/, dynamic serving). Each time it is looked
whether it has them: where they do not reach it while it runs, it is started anew.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx
import torch

from ragdro.config import Config
from ragdro.config.engine import VllmServerEngine
from ragdro.config.http import HttpService
from ragdro.environment import env_rank
from ragdro.errors import ConfigError, TrainingError, warn
from ragdro.hub import find_checkpoint
from ragdro.json_http import JsonClient
from ragdro.lm.engines.base import KEY, DecoderOf, Engine, EngineDecoder
from ragdro.lm.engines.gpus import refuse_gpus, taken_gpus
from ragdro.lm.engines.http import asking
from ragdro.lm.engines.parity import difference, is_stale, refuse_another, stale_weights
from ragdro.lm.engines.process import ServerProcess, end_of
from ragdro.lm.engines.serve import Served, free_port, hosts, options, server_environment
from ragdro.lm.model import LanguageModel
from ragdro.lm.saving import save_language_model
from ragdro.parallel.sharding import unshard, whole_weights
from ragdro.parallel.world import broadcast_from_rank0
from ragdro.runs.models import base_of

Reply = TypeVar("Reply")
LOG = "server.log"
_MODEL = "selector"
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `--max-lora-rank`."""


class VllmServer(Engine):
    """Raises `ConfigError` for a command that is not there and GPUs that cannot be the server's."""

    def __init__(self, config: Config) -> None:
        settings = config.e_step.engine
        assert isinstance(settings, VllmServerEngine)
        self._config, self._settings = config, settings
        self._folder = Path(config.cache) / "engines" / config.name
        self._process: ServerProcess | None = None
        self._served: Served | None = None
        self._adapters = 0
        self._rounding = 0.0
        """How far the server's log-probabilities were from our own when it had just been started."""
        self._starts_anew = False
        """Whether new weights have been found not to reach it while it runs."""
        if config.selector.adapter is not None and config.selector.layers is not None:
            raise ConfigError(
                f"selector.layers: {KEY} vllm-server serves a whole base; leave one of them out"
            )
        if config.selector.adapter is not None and config.selector.adapter.rank > _RANKS[-1]:
            raise ConfigError(f"selector.adapter.rank: vLLM takes {_RANKS[-1]} at most")
        refuse_gpus(settings, taken_gpus(config.device, os.environ))
        if env_rank() == 0 and shutil.which(settings.command) is None:
            raise ConfigError(
                f"{KEY}.command: no command '{settings.command}' here; pip install 'ragdro[vllm]', or give"
                " the path of the vllm of another environment"
            )

    @contextmanager
    def serving(self, model: LanguageModel) -> Iterator[DecoderOf]:
        """See `Engine`. Raises `TrainingError` for a server that does not start, or ends."""
        whole = whole_weights(model.hf)
        unshard(model.hf)
        served = broadcast_from_rank0(partial(self._give, model, whole))
        settings = self._settings
        service = self._service(served, "/v1", settings.timeout_seconds, settings.retries)
        with asking(service, served.model, settings.concurrency) as completions:
            yield partial(EngineDecoder, lambda asked: self._explaining(partial(completions.ask, asked)))
            self.tell("vllm serve", completions.asked)

    def close(self) -> None:
        """Stop the server; its log stays."""
        self._stop()
        shutil.rmtree(self._folder / _MODEL, ignore_errors=True)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.stop()
        self._process = self._served = None

    def _give(self, model: LanguageModel, whole: dict[str, torch.Tensor] | None) -> Served:
        """Have the server, which is started if there is none, serve `model` as it is now."""
        if self._starts_anew:
            self._stop()
        weights, is_new = self._folder / _MODEL, self._served is None
        if model.adapter is None:
            save_language_model(model, weights, whole)
        if self._served is None:
            self._served = self._start(model, weights)
        elif model.adapter is None:
            self._tell("/collective_rpc", {"method": "reload_weights"})
            if not self._tell("/reset_prefix_cache", {}).json()["success"]:
                raise TrainingError(f"{KEY}: vLLM keeps what it computed with earlier weights")
        if model.adapter is not None:
            self._served = self._give_adapter(self._served, model, weights)
        apart = self._difference(self._served, model)
        if is_new:
            advice = f"look at {KEY}.arguments and at {self._folder / LOG}, or take another version of vLLM"
            refuse_another(apart, model, f"{KEY}: vLLM", advice)
            self._rounding = apart
        elif is_stale(apart, self._rounding):
            self._starts_anew = True
            warn(stale_weights(apart, self._rounding, KEY))
            return self._give(model, whole)
        return self._served

    def _difference(self, served: Served, model: LanguageModel) -> float:
        """See `difference`. Its first answer takes vLLM long: it compiles something for it."""
        service = self._service(served, "/v1", self._settings.start_seconds, 0)
        with asking(service, served.model, 1) as completions:
            return difference(lambda asked: self._explaining(partial(completions.ask, asked)), model)

    def _give_adapter(self, served: Served, model: LanguageModel, folder: Path) -> Served:
        """Each E-step's adapter has a name of its own, so nothing that was computed with another is used."""
        self._adapters += 1
        name = f"{_MODEL}-{self._adapters}"
        path = folder / name
        save_language_model(model, path)
        if served.model != _MODEL:
            self._tell("/v1/unload_lora_adapter", {"lora_name": served.model})
            shutil.rmtree(folder / served.model)
        self._tell("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path.resolve())})
        return replace(served, model=name)

    def _start(self, model: LanguageModel, weights: Path) -> Served:
        settings = self._settings
        listens, host = hosts(os.environ)
        port = settings.port or free_port(listens)
        served = Served(host, listens, port, _MODEL, secrets.token_urlsafe())
        command = [settings.command, "serve", *self._served_model(model, weights)]
        command += options(settings, served, str(model.autocast or model.hf.dtype).removeprefix("torch."))
        environment = server_environment(settings, served.api_key)
        self._process = ServerProcess(f"{KEY}: vllm serve", command, environment, self._folder / LOG)
        self.say(f"vllm serve is being started; its log is {self._folder / LOG}")
        self._process.wait_until_ready(f"{served.url}/health", settings.start_seconds)
        return served

    def _served_model(self, model: LanguageModel, weights: Path) -> list[str]:
        """What the server loads as it starts, and the options that go with it."""
        selector = self._config.selector
        trust = ["--trust-remote-code"] if selector.trust_remote_code else []
        if model.adapter is None:
            return [str(weights.resolve()), *trust]
        assert selector.adapter is not None
        base = find_checkpoint(base_of(self._config, "selector"), selector.revision)
        revision = (
            ["--revision", selector.revision] if selector.revision and not Path(base.path).is_dir() else []
        )
        rank = next(rank for rank in _RANKS if rank >= selector.adapter.rank)
        adapters = ["--enable-lora", "--max-loras", "1", "--max-lora-rank", str(rank)]
        return [base.path, *revision, *trust, *adapters]

    def _tell(self, path: str, body: dict[str, object]) -> httpx.Response:
        """Have the server do something that may take as long as its start."""
        assert self._served is not None
        service = self._service(self._served, "", self._settings.start_seconds, 0)
        with JsonClient(service, TrainingError, KEY) as client:
            return self._explaining(partial(client.send, f"{self._served.url}{path}", body))

    def _service(self, served: Served, version: str, seconds: float, retries: int) -> HttpService:
        return HttpService(
            url=f"{served.url}{version}",
            headers={"Authorization": f"Bearer {served.api_key}"},
            timeout_seconds=seconds,
            retries=retries,
            backoff_seconds=self._settings.backoff_seconds,
        )

    def _explaining(self, ask: Callable[[], Reply]) -> Reply:
        """What the server says; where it does not, how it ended, if it did."""
        try:
            return ask()
        except TrainingError as error:
            ending, log = None if self._process is None else self._process.ending, self._folder / LOG
            if ending is None:
                raise TrainingError(f"{KEY}: {error}; the server's log is {log}") from error
            raise TrainingError(f"{ending}{end_of(log)}") from error
