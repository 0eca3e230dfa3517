"""How samples of a process become a table of where an event's time goes."""

from collections import Counter

from deploy.bench.profile import KINDS, OTHER, by_kind, table
from deploy.local.databases import CORE

SAMPLES = """\
thread (libc.so.6);run (asyncio/runners.py:190);apply (services/points/domain/decisions.py:122) 3
thread (libc.so.6);run (asyncio/runners.py:190);apply (services/points/domain/decisions.py:122);sum (_ctypes.so) 2
thread (libc.so.6);run (asyncio/runners.py:190) 4
thread (libc.so.6);poll_thread (grpc/_cython/cygrpc.so);epoll_wait (libc.so.6) 90
thread (libc.so.6);malloc (libc.so.6) 1
"""


def test_a_sample_is_of_the_kind_of_the_innermost_code_that_has_one() -> None:
    assert by_kind(SAMPLES) == {"rules": 5, "event loop": 4, OTHER: 1}


def test_a_thread_that_waits_costs_nothing() -> None:
    assert "gRPC" not in by_kind(SAMPLES)


def test_the_kinds_of_a_service_add_up_to_its_processor_time() -> None:
    cpu = dict.fromkeys(CORE, 0.5) | {"postgres": 1.0}
    kinds = {key: Counter({"rules": 3, OTHER: 1}) for key in CORE}
    rows = {
        line.split("|")[1].strip(): line.split("|")[2:-1]
        for line in table(cpu, kinds, 1_000).splitlines()
        if "|" in line
    }
    assert [cell.strip() for cell in rows["rules"]] == ["375"] * 5 + ["1875"]
    assert [cell.strip() for cell in rows["**all**"]] == ["500"] * 5 + ["2500"]
    assert len(rows) == len(KINDS) + 4


def test_who_is_no_service_stands_beside_the_table() -> None:
    cpu = dict.fromkeys(CORE, 0.5) | {"postgres": 1.0, "valkey": 0.1}
    assert "postgres 1000, valkey 100" in table(cpu, {key: Counter() for key in CORE}, 1_000)
