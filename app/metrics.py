"""What Prometheus can read of this process."""

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, disable_created_metrics

from app.version import VERSION


def new_registry() -> CollectorRegistry:
    """One with the process's own numbers and the build's; whoever counts something else adds it."""
    # A series more for each counter, which says when this process began: that is there once.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    Gauge("chatglm:build_info", "The version that runs.", ["version"], registry=registry).labels(VERSION).set(1)
    return registry
