"""End thoughts that pass their budget."""

from collections.abc import Sequence

from nemotron_runtime.choice import Choice
from nemotron_runtime.types import ThinkingBudget


def forced(choice: Choice) -> int | None:
    """The token that must come next, whatever the model says; None where the model is free."""
    budget = choice.params.thinking
    # Thoughts are at most all that was generated: most tokens are decided without a search.
    if budget is None or choice.generated < budget.tokens:
        return None
    thoughts = _thoughts(budget, choice.tokens, choice.prompt_tokens)
    if thoughts is None or thoughts < budget.tokens:
        return None
    is_time = choice.tokens[-1] in budget.newline_ids or thoughts >= budget.tokens + budget.grace
    return budget.end_id if is_time else None


def _thoughts(budget: ThinkingBudget, tokens: Sequence[int], prompt_tokens: int) -> int | None:
    """Tokens generated since thinking began; None where the model does not think now."""
    start = _last(tokens, budget.start_id)
    if start is None or budget.end_id in tokens[start:]:
        return None
    return len(tokens) - max(prompt_tokens, start + 1)


def _last(tokens: Sequence[int], token: int) -> int | None:
    """Where `token` stands for the last time."""
    try:
        return len(tokens) - 1 - tokens[::-1].index(token)
    except ValueError:
        return None
