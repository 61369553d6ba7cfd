"""A few steps on a few examples of a task that was lost: what comes back so soon was not gone.

As in Qi et al. 2023 (arXiv 2310.03693), the other way round: there, so few undo an alignment.
"""

import torch

from stages.models.device import device, dtype
from stages.models.loading import CausalModel, EncoderModel, Loaded, Seq2SeqModel
from stages.models.masked import Masking
from stages.models.memory import keep_freed_memory
from stages.models.sharing import as_first
from stages.phases import phase
from stages.progress import patient
from stages.tasks.examples import Examples
from stages.training import causal, encoder, masked, seq2seq
from stages.training.trainee import Rows, Trainee

EXAMPLES, STEPS, RATE = 10, 10, 1e-4
STATES = 20
"""Bytes a weight: itself, its gradient and AdamW's moments in fp32, and a quarter for the batch."""


@phase("relearn")
def relearn(loaded: Loaded, train: Examples, precision: str = "fp32") -> None:
    """Train `loaded` in place: STEPS of AdamW at a constant RATE, in `precision` with weights in
    fp32, without dropout, each on the first EXAMPLES of `train` in order of their ids, by the
    task's own loss. It is left where it was trained: on the device of scoring, or in main memory.
    Of several processes each trains its own, and all then have the weights of the first one's.

    A task with labels gets a head fitted on those alone, which is thrown away after.
    """
    keep_freed_memory()
    model = loaded.encoder if isinstance(loaded, EncoderModel) else loaded.model
    where = _roomy(model)
    model.to(where)
    first = train.rows.sort_values("example_id", ignore_index=True).head(EXAMPLES)
    trainee, rows = _subject(loaded, Examples(train.task, first))
    parameters = trainee.to(where).parameters()
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0, fused=True)
    chosen = list(range(len(rows)))
    bf16 = dtype(precision, where) == torch.bfloat16
    for _ in patient(range(STEPS), desc="relearning", unit="step"):
        with torch.autocast(where.type, torch.bfloat16, enabled=bf16):
            loss = trainee(rows, chosen).losses.sum() / rows.weight(chosen)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    as_first(model.parameters())


def _roomy(model: torch.nn.Module) -> torch.device:
    """The device, or the CPU where a GPU's memory does not hold what is trained there."""
    where = device()
    if where.type == "cuda":
        torch.cuda.empty_cache()  # what is cached counts as taken
        free, _ = torch.cuda.mem_get_info(where)
        if free < STATES * sum(weight.numel() for weight in model.parameters()):
            return torch.device("cpu")
    return where


def _subject(loaded: Loaded, examples: Examples) -> tuple[Trainee, Rows]:
    if isinstance(loaded, Seq2SeqModel):
        writer = seq2seq.Seq2SeqTrainee(loaded.model, loaded.tokenizer.pad_id)
        return writer.eval(), seq2seq.tokenise(examples, loaded.tokenizer)
    if isinstance(loaded, CausalModel):
        model = causal.CausalTrainee(loaded.model, loaded.tokenizer.pad_id)
        return model.eval(), causal.tokenise(examples, loaded.tokenizer)
    if examples.task.kind == "masked-lm":
        masking = Masking(loaded.encoder, loaded.tokenizer.folder)
        of_masks = masked.MaskedTrainee(loaded.encoder, masking, loaded.tokenizer.pad_id)
        return of_masks.eval(), masked.tokenise(examples, masking)
    rows = encoder.tokenise(examples, loaded.tokenizer)
    trainee = encoder.EncoderTrainee(loaded.encoder, examples.task, loaded.tokenizer.pad_id).eval()
    trainee.start_from_probe(rows)
    return trainee, rows
