"""Deficit round robin over tokens: whose turn it is.

Shreedhar and Varghese, "Efficient fair queuing using deficit round robin" (1996), with weights and with debts, because
a running answer takes its token in every step whether it is its tenant's turn or not.
"""

from collections import deque
from collections.abc import Iterator


class Turns:
    """The tenants that have requests, in the order of their turns, and what each may still compute.

    Args:
        quantum: tokens that a turn brings to a tenant of weight 1.
    """

    def __init__(self, quantum: int) -> None:
        self._quantum = quantum
        self._order: deque[str] = deque()
        self._weights: dict[str, float] = {}
        self._credit: dict[str, float] = {}
        self._begun = ""

    def enter(self, tenant: str, weight: float) -> None:
        """Take part, last in turn; a tenant that takes part already gets the new weight."""
        if tenant not in self._weights:
            self._order.append(tenant)
            self._credit[tenant] = 0.0
        self._weights[tenant] = weight

    def leave(self, tenant: str) -> None:
        """Take no part any more; debts are forgiven and credit is lost."""
        self._order.remove(tenant)
        del self._weights[tenant], self._credit[tenant]

    def charge(self, tenant: str, tokens: int) -> None:
        """Take tokens off a tenant's credit; its debt is never more than one turn brings."""
        least = -self._quantum * self._weights[tenant]
        self._credit[tenant] = max(least, self._credit[tenant] - tokens)

    def credit(self, tenant: str) -> int:
        """Tokens that a tenant may still compute in its turn; 0 or less ends it."""
        credit = self._credit[tenant]
        # A fraction of a token buys a whole one, and is owed.
        return int(credit) + (credit > int(credit))

    def share(self, tenant: str, seats: int) -> int:
        """How many of the seats are a tenant's by its weight: at least one."""
        return max(1, int(seats * self._weights[tenant] / sum(self._weights.values())))

    def __iter__(self) -> Iterator[str]:
        """The tenants by turns, for ever; the one whose turn is broken off comes first, with what it had left."""
        while self._order:
            tenant = self._order[0]
            if self._begun != tenant:
                self._begun = tenant
                self._credit[tenant] += self._quantum * self._weights[tenant]
            yield tenant
            self._begun = ""
            if tenant in self._weights:
                self._order.rotate(-1)

    def forgo(self, tenant: str) -> None:
        """Keep no credit for later: the tenant has nothing to compute."""
        self._credit[tenant] = min(0.0, self._credit[tenant])
