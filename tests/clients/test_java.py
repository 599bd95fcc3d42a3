"""Apache Kafka's Java clients, through our ClientChecks."""

import pytest

from api_versions import offers
from tools import java, needs

pytestmark = needs("java", "mvn")
CONSUMER_GROUP_HEARTBEAT, END_TXN = 68, 26
LATER = {"consumer-group": CONSUMER_GROUP_HEARTBEAT, "transactions": END_TXN, "transactional-offsets": END_TXN}


@pytest.mark.parametrize(
    "check",
    [
        "admin",
        "compressions",
        "idempotent-producer",
        "classic-group",
        "consumer-group",
        "static-member",
        pytest.param(
            "static-member-that-rejoined",
            marks=pytest.mark.xfail(reason="a static member that rejoined once still causes a rebalance: docs/GAPS.md"),
        ),
        "transactions",
        "transactional-offsets",
    ],
)
@pytest.mark.timeout(300)  # The first one compiles and may download.
def test_java_client(kafka, check):
    if check in LATER and not offers(kafka, LATER[check]):
        pytest.skip(f"this broker does not offer what the check {check} needs yet")
    assert f"ok {check}" in java("ClientChecks", kafka, check).stdout
