"""The dashboard and the alerts ask for what there is, in PromQL."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import promql_parser
import pytest
import yaml  # type: ignore[import-untyped]

from app.common.errors import AppError, DatabaseUnavailable
from database.models import TurnStatus
from tests.service import NEW_MESSAGE, running_service, script, stream
from tests.test_controller.test_metrics_controller import TOKEN, read

DOCS = Path(__file__).parent.parent / "docs"
# Prometheus' own, and what it adds to each series.
OF_PROMETHEUS, TARGET = {"up"}, {"job", "instance"}
Node = TypeVar("Node", bound=promql_parser.Expr)


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DOCS / "grafana.json").read_text(encoding="utf-8"))
    return loaded


def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((DOCS / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def expressions() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        # Grafana's variables become what it would put there.
        yield from (target["expr"].replace("$__rate_interval", "1m") for target in panel.get("targets", []))
    yield from (rule["expr"] for rule in rules())


def nodes(expression: str, kind: type[Node]) -> list[Node]:
    found: list[Node] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, kind):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    return nodes(expression, promql_parser.VectorSelector)


def values(alert: str, label: str) -> set[str]:
    """Those that an alert asks for."""
    (expression,) = (rule["expr"] for rule in rules() if rule["alert"] == alert)
    matchers = [matcher for selector in selectors(expression) for matcher in selector.matchers.matchers]
    return {value for matcher in matchers if matcher.name == label for value in matcher.value.split("|")}


async def test_every_metric_and_label_they_name_is_there(migrated_sqlite: Path, tmp_path: Path) -> None:
    path = tmp_path / "chatglm.db"
    shutil.copy(migrated_sqlite, path)
    async with running_service(f"sqlite:///{path}", tmp_path, metrics_token=TOKEN) as service:
        await stream(service.ours, script("abc"))
        await service.nobody.get(NEW_MESSAGE)
        samples = (await read(service)).samples
    labels: dict[str, set[str]] = {name: set() for name in OF_PROMETHEUS}
    for sample in samples:
        labels.setdefault(sample.name, set()).update(sample.labels)
    named = [selector for expression in expressions() for selector in selectors(expression)]
    assert len(named) > 40
    for selector in named:
        assert selector.name in labels, selector
        asked = {matcher.name for matcher in selector.matchers.matchers}
        assert asked <= labels[selector.name] | TARGET, selector


def test_what_grows_is_counted_and_what_changes_is_not() -> None:
    """A gauge is read now and then: an engine that died and was back in between has never been away."""
    for expression in expressions():
        for call in nodes(expression, promql_parser.Call):
            assert call.func.name in {"histogram_quantile", "increase", "rate"}
            if call.func.name != "histogram_quantile":
                (counted,) = call.args
                assert isinstance(counted, promql_parser.MatrixSelector)
                assert str(counted.vector_selector.name).endswith(("_total", "_bucket", "_sum", "_count"))


def test_an_alert_asks_for_every_way_in_which_its_trouble_is_told() -> None:
    kinds: list[type[AppError]] = [DatabaseUnavailable, *DatabaseUnavailable.__subclasses__()]
    assert values("ChatglmDatabaseAway", "code") == {kind.code for kind in kinds}
    assert values("ChatglmTurnsFail", "status") == {TurnStatus.FAILED, TurnStatus.INTERRUPTED}
    assert values("ChatglmOverloaded", "code") == {"overloaded"}


def test_the_parser_refuses_what_prometheus_would() -> None:
    with pytest.raises(ValueError, match="parenthesis"):
        promql_parser.parse("sum by (code) (rate(chatglm:refusals_total[5m])")


def test_every_alert_is_explained_and_nothing_else_is() -> None:
    guide = (DOCS / "operations.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(Chatglm\w+)`", guide)) == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
