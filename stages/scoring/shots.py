"""Few-shot prompts: examples of a target in front of what is asked (Brown et al. 2020, arXiv
2005.14165, section 2). What a base can do with them costs it nothing."""

from dataclasses import replace

from stages.errors import UserError
from stages.models.causal import shift_space
from stages.storage import content_id
from stages.tasks.examples import Examples

BETWEEN = "\n\n"
"""Between two shots, and before what is asked."""


def few_shot_prompt(train: Examples, shots: int, seed: int) -> str:
    """`shots` examples of the train split with their answers, one prompt for all that is asked.

    Of multiple choice: context and right choice; of completion: prompt and the first that is
    accepted. Of text: other texts, each with its prompt. They are those whose hash with `seed`
    comes first. Raises UserError where train has too few.
    """
    if len(train) < shots:
        raise UserError(f"shots = {shots}: its train split has {len(train)} examples")
    order = train.rows["example_id"].map(lambda one: content_id(str(seed), "shots", one))
    rows = train.rows.loc[order.sort_values().index[:shots]]
    if train.task.kind == "multiple-choice":
        chosen = zip(rows["choices"], rows["answer"], strict=True)
        told = [str(choices[int(answer)]) for choices, answer in chosen]
        asked = rows["context"]
    elif train.task.kind == "completion":
        told, asked = [str(accepted[0]) for accepted in rows["completion"]], rows["prompt"]
    else:
        told, asked = list(rows["text"]), rows["prompt"]
    texts = (f"{one}{answer}{BETWEEN}" for one, answer in zip(asked, told, strict=True))
    return "".join(texts)


def behind(prompt: str, tokens: int, examples: Examples, longest: int) -> Examples:
    """`examples` asked after the `prompt` of so many `tokens`, each read as far as without it.

    Raises UserError where both together are more than the `longest` that the model reads.
    """
    task = replace(examples.task, max_length=examples.task.max_length + tokens)
    if task.max_length > longest:
        raise UserError(
            f"the shots take {tokens} tokens and an example up to {examples.task.max_length}; the "
            f"model reads {longest}: lower shots of the case"
        )
    column = "context" if task.kind == "multiple-choice" else "prompt"
    rows = examples.rows.assign(**{column: prompt + examples.rows[column].astype(str)})
    return Examples(task, rows)


def text_bytes(examples: Examples) -> list[int]:
    """UTF-8 bytes of each text as it is scored without a prompt of shots."""
    asked = zip(examples.column("prompt"), examples.column("text"), strict=True)
    return [len(shift_space(*both)[1].encode()) for both in asked]
