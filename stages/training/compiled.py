"""Layers by torch.compile: each by itself, so that those of a kind share what is made of one."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import DistributedType
from transformers import AttentionInterface
from transformers.modeling_layers import GradientCheckpointingLayer

from stages.errors import UserError
from stages.models import documents
from stages.training.subject import Subject


def compile_layers(subject: Subject) -> None:
    """Compile the body's layers in place, for batches of any shape; what attends within documents
    stays as it is, since the compiler cannot follow it.

    Raises UserError under FSDP, where the layers are not known, and where torch.compile does not
    work, as where there is no C++ compiler.
    """
    layers = [one for one in subject.body.modules() if isinstance(one, GradientCheckpointingLayer)]
    if not layers:
        raise _refused(subject, f"not known of a model of type {subject.body.config.model_type!r}")
    if subject.accelerator.distributed_type == DistributedType.FSDP:
        raise _refused(subject, "not under FSDP")
    try:
        torch.compile(torch.sin)(torch.ones(2, device=subject.device))
    except Exception as error:
        cause = getattr(error, "inner_exception", error)
        told = str(cause).strip().partition("\n")[0]
        raise _refused(subject, f"torch.compile fails here ({told})") from None
    # Layers by themselves are small enough for DDP, which would cut each in two.
    torch._dynamo.config.optimize_ddp = False
    attend: Any = AttentionInterface()[documents.NAME]
    eager = torch.compiler.disable(attend)  # type: ignore[no-untyped-call]
    AttentionInterface.register(documents.NAME, eager)
    for layer in layers:
        layer.compile(dynamic=True)


def _refused(subject: Subject, why: str) -> UserError:
    return UserError(f"runs.{subject.recipe.name}.compile = True: {why}: leave it out")


def as_written(compiled: bool) -> AbstractContextManager[Any]:
    """A block in which layers that were `compiled` are not called as such: a look at validation is
    too short to compile them once more, without gradients."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()
