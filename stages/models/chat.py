"""Conversations in a tokenizer's chat template, and which of their tokens the assistant writes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from stages.errors import UserError
from stages.models.pretrained import reason
from stages.models.texts import TokenIds

Message = Mapping[str, str]
"""role: system, user or assistant; content."""
MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""Where a template says itself what the assistant writes."""
TODAY = datetime(2024, 7, 26)
"""What templates that tell the date are told: with the clock's, each day would ask and teach
otherwise. It is the one that Llama's fall back to."""
PARTS = [*"aAbBcdDeFHIjmMpSTxXyY", "-d", "-m", "-H", "-I"]
"""Of a date, by strftime's letters."""
CLOCK = "".join(
    [
        "{% macro strftime_now(format) %}{{ format",
        *(f"|replace('%{part}', '{TODAY:%{part}}')" for part in PARTS),
        # The line break is trimmed, and leaves the template at the beginning of a line.
        " }}{% endmacro %}\n",
    ]
)
"""Put before a template, it stands in place of transformers' own `strftime_now`, which a function
among the settings would not: they are made plain data."""


@dataclass(frozen=True)
class ChatTemplate:
    """Of a fast `tokenizer` that has one."""

    tokenizer: Any
    folder: Path

    def asked(self, messages: Sequence[Message]) -> TokenIds:
        """Up to where the assistant's next message begins."""
        return list(self._applied(messages, add_generation_prompt=True, return_dict=False))

    def whole(self, messages: Sequence[Message]) -> tuple[TokenIds, list[int]]:
        """Token ids, and 1 at those of the assistant's messages and of their ends; else 0.

        By the template's generation marks. Where it has none, what a message adds to the
        conversation before it and to the words that call for an answer; raises UserError where the
        template changes these once the conversation goes on.
        """
        if MARKED.search(str(self.tokenizer.chat_template)):
            found = self._applied(messages, return_dict=True, return_assistant_tokens_mask=True)
            return list(found["input_ids"]), list(found["assistant_masks"])
        text = self._rendered(messages)
        spans = list(self._spans(messages, text))
        read = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        marks = [
            int(any(first <= start < last for first, last in spans) and start < end)
            for start, end in read["offset_mapping"]
        ]
        return list(read["input_ids"]), marks

    def end(self, messages: Sequence[Message]) -> int | None:
        """The special token behind the last of `messages`, white space aside; None without one."""
        text = self._rendered(messages).rstrip()
        last = int(self.tokenizer(text, add_special_tokens=False)["input_ids"][-1])
        return last if last in self.tokenizer.all_special_ids else None

    def _spans(self, messages: Sequence[Message], whole: str) -> Iterator[tuple[int, int]]:
        """Where the assistant's messages begin and end in the conversation, in characters."""
        for at, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._rendered(messages[:at], add_generation_prompt=True)
            # White space behind the end of a turn is the template's.
            until = self._rendered(messages[: at + 1]).rstrip()
            if not until.startswith(before) or not whole.startswith(until):
                raise UserError(
                    f"{self.folder}: the chat template writes message {at + 1} of a conversation "
                    "otherwise once more follows, so what the assistant wrote cannot be told: "
                    "give conversations with one message of the assistant's, or a template with "
                    "{% generation %}"
                )
            yield len(before), len(until)

    def _rendered(self, messages: Sequence[Message], **settings: Any) -> str:
        return str(self._applied(messages, tokenize=False, **settings))

    def _applied(self, messages: Sequence[Message], **settings: Any) -> Any:
        """Raises UserError where the template refuses the conversation."""
        template = str(self.tokenizer.get_chat_template())
        if "strftime_now" in template:
            settings["chat_template"] = CLOCK + template
        try:
            return self.tokenizer.apply_chat_template(list(messages), **settings)
        except jinja2.TemplateError as error:
            raise UserError(
                f"{self.folder}: the chat template refuses a conversation "
                f"({', '.join(one['role'] for one in messages)}): {reason(error)}"
            ) from None
