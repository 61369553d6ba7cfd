"""Conversations in a cell: a list of messages, {role, content}, as chat data sets have them."""

from typing import Any

from stages.tasks.cells import WrongCellError, text_of

ASSISTANT = "assistant"
ROLES = ("system", "user", ASSISTANT)


def messages_of(value: Any, row: int, column: str) -> list[tuple[str, str]]:
    """(role, content) of each. Raises WrongCellError where it is no such list."""
    if not isinstance(value, list) or not value:
        raise WrongCellError(row, column, "is no list of messages, as jsonl and parquet have")
    return [_message(one, number, row, column) for number, one in enumerate(value, 1)]


def _message(message: Any, number: int, row: int, column: str) -> tuple[str, str]:
    if not isinstance(message, dict) or not {"role", "content"} <= set(message):
        reason = f"message {number} has no role and content"
        raise WrongCellError(row, column, reason)
    role, content = message["role"], message["content"]
    if role not in ROLES:
        reason = f"message {number}: role {str(role)[:40]!r}: give one of {', '.join(ROLES)}"
        raise WrongCellError(row, column, reason)
    if not isinstance(content, str):
        raise WrongCellError(row, column, f"message {number}: its content is no text")
    return role, text_of(content, row, column)
