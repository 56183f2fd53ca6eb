"""What Prometheus is told of the rows of turns."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.engine_metrics import PREFIX
from database.session import Database
from services.recovery_service import RecoveryService
from services.settlement_service import SettlementService

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class StorageMetrics(Collector):
    """Whether every turn's end is written, where, and how long the database takes."""

    def __init__(self, database: Database, settlements: SettlementService, recovery: RecoveryService) -> None:
        self._database = database
        self._settlements = settlements
        self._recovery = recovery

    def collect(self) -> Iterator[Metric]:
        """As it is now."""
        for count, about, value in (
            ("turn_rows_lost", "Ends of turns that could be written nowhere: always 0.", self._settlements.lost),
            ("turns_recovered", "Turns of processes that died, settled here.", self._recovery.recovered),
        ):
            yield CounterMetricFamily(PREFIX + count, about, value)
        for gauge, about, now in (
            ("turn_ends_waiting", "Ends of turns that wait for the database.", self._settlements.depth),
            ("turn_ends_waiting_seconds", "The age of the oldest of them.", self._settlements.oldest_age),
            ("database_connections_in_use", "By a transaction.", self._database.connections_in_use),
        ):
            yield GaugeMetricFamily(PREFIX + gauge, about, now)


def transaction_seconds(registry: CollectorRegistry) -> Histogram:
    """Of every transaction, with the wait for a connection."""
    return Histogram(
        PREFIX + "database_transaction_seconds",
        "Of a transaction, with the wait for a connection.",
        buckets=_SECONDS,
        registry=registry,
    )
