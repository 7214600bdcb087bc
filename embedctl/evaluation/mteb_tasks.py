"""Tasks of MTEB, the Massive Text Embedding Benchmark (Muennighoff et al. 2022), which is an optional package."""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import JsonValue

from embedctl.checkpoint.files import Model
from embedctl.data.hub_faults import explained
from embedctl.errors import ConfigError
from embedctl.model.encoding import Vectors, unit_vectors
from embedctl.tokens.tokenizer import encode_texts, frame_of


@dataclass(frozen=True, slots=True)
class MtebEncoder:
    """What MTEB wants of a model, its ``EncoderProtocol``: it looks for the methods, not for a class.

    meta: MTEB's own description of a model
    """

    model: Model
    dtype: torch.dtype
    meta: Any

    @property
    def mteb_model_meta(self) -> Any:
        return self.meta

    def encode(
        self, inputs: Iterable[Mapping[str, Sequence[str]]], *, prompt_type: Any = None, **context: Any
    ) -> Vectors:
        """Unit vectors, float32 (N, D), of the texts of all batches, in their order.

        prompt_type: "document" (a title stands in the text already), "query", or ``None`` for tasks that have neither,
                     whose texts are taken as queries that may be as long as a passage
        context:     which task and split it is; the vectors do not depend on it
        """
        model = self.model
        kind = str(getattr(prompt_type, "value", prompt_type))
        frame, limit = model.query_frame, model.max_tokens
        if kind == "document":
            frame = frame_of(model.tokenizer, model.passage_prompt)
        elif kind == "query":
            limit = model.query_max_tokens
        texts = [text for batch in inputs for text in batch["text"]]
        return unit_vectors(model.encoder, encode_texts(model.tokenizer, texts, frame, limit).ids, dtype=self.dtype)

    def similarity(self, one: Any, other: Any) -> torch.Tensor:
        """(N, M) cosines."""
        return torch.as_tensor(one) @ torch.as_tensor(other).T

    def similarity_pairwise(self, one: Any, other: Any) -> torch.Tensor:
        """(N,) cosines of neighbours."""
        return (torch.as_tensor(one) * torch.as_tensor(other)).sum(dim=-1)


def evaluate_tasks(model: Model, names: Sequence[str], *, dtype: torch.dtype) -> dict[str, JsonValue]:
    """The main score of each task, and what it is called; data come from the Hub, or from its cache without a net."""
    mteb = _mteb()
    return evaluate_loaded(model, [_task(mteb, name) for name in names], mteb, dtype=dtype)


def evaluate_loaded(model: Model, tasks: Iterable[Any], mteb: Any, *, dtype: torch.dtype) -> dict[str, JsonValue]:
    """The same of MTEB's task objects."""
    meta = mteb.models.ModelMeta.create_empty({"name": "embedctl/model", "revision": model.model_id})
    encoder = MtebEncoder(model, dtype, meta)
    found: dict[str, JsonValue] = {}
    for task in tasks:
        name = task.metadata.name
        if not task.data_loaded:
            with explained(f"the data of MTEB's {name}"):
                task.load_data()
        done = mteb.evaluate(
            encoder, task, cache=None, show_progress_bar=False, encode_kwargs={"batch_size": 1024}, co2_tracker=False
        )
        task.unload_data()
        score = float(done.task_results[0].get_score())
        found[name] = {"main_score": score, "metric": str(task.metadata.main_score)}
    return found


def _mteb() -> Any:
    try:
        return importlib.import_module("mteb")
    except ImportError:
        raise ConfigError(
            "evaluation.mteb_tasks wants the package mteb", hint="pip install 'embedctl[eval]', or unset it"
        ) from None


def _task(mteb: Any, name: str) -> Any:
    try:
        return mteb.get_task(name)
    except KeyError as fault:
        raise ConfigError(
            f"evaluation.mteb_tasks: MTEB has no task {name!r}", hint=str(fault.args[0]).removeprefix("KeyError: ")
        ) from None
