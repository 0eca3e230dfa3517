"""Addresses of other services."""

import pytest

from shared.config import ConfigurationError
from shared.rpc.channel import target_of


@pytest.mark.parametrize(
    ("targets", "target"),
    [
        ("10.0.0.1:1", "ipv4:10.0.0.1:1"),
        ("10.0.0.1:1, 10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2"),
        ("localhost:1,localhost:2", "ipv4:127.0.0.1:1,127.0.0.1:2"),
        ("[::1]:1,[::2]:2", "ipv6:[::1]:1,[::2]:2"),
        ("streak.laurel.svc:50051", "dns:///streak.laurel.svc:50051"),
        ("unix:/run/streak.sock", "unix:/run/streak.sock"),
    ],
)
def test_addresses_become_a_target_with_every_replica(targets: str, target: str) -> None:
    assert target_of(targets) == target


@pytest.mark.parametrize(
    "targets", ["", "streak", "a:1,b:2", "10.0.0.1:1,[::1]:2", "10.0.0.1:x", "10.0.0.1:1,"]
)
def test_addresses_that_cannot_be_dialled_are_refused(targets: str) -> None:
    with pytest.raises(ConfigurationError, match="is"):
        target_of(targets)
