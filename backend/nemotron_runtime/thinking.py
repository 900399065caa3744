"""End thoughts that pass their budget."""

from nemotron_runtime.choice import Choice
from nemotron_runtime.types import ThinkingBudget


def forced(choice: Choice) -> int | None:
    """The token that must come next, whatever the model says; None where the model is free."""
    budget = choice.params.thinking
    # Thoughts are at most all that was generated: most tokens are decided without a search.
    if budget is None or choice.generated < budget.tokens:
        return None
    thoughts = _thoughts(budget, choice)
    if thoughts is None or thoughts < budget.tokens:
        return None
    is_time = choice.tokens[-1] in budget.newline_ids or thoughts >= budget.tokens + budget.grace
    return budget.end_id if is_time else None


def _thoughts(budget: ThinkingBudget, choice: Choice) -> int | None:
    """Tokens generated since thinking began; None where the model does not think now."""
    start, end = choice.last(budget.start_id), choice.last(budget.end_id)
    if start is None or (end is not None and end >= start):
        return None
    return choice.position - max(choice.prompt_tokens, start + 1)
