"""Several hosts of a database: the one that takes writes, and none that was replaced."""

import pytest

from storage.database.postgres import PostgresPool, Role
from storage.database.postgres_hosts import History, Identity
from storage.database.postgres_url import Host, check_hosts, hosts_of
from storage.errors import Unavailable
from tests.support.failover import failover_pair
from tests.support.waiting import until

ADDRESSES = {
    "postgresql://u:p@h1:1,h2:2/db?target_session_attrs=read-write": [("h1", 1), ("h2", 2)],
    "postgresql://u:p%40@h1,h2/db": [("h1", 5432), ("h2", 5432)],
    "postgresql://u@/db?host=/run/a,/run/b": [("/run/a", 5432), ("/run/b", 5432)],
    "postgresql://u@/db?host=a,b&port=1,2": [("a", 1), ("b", 2)],
    "postgresql://u@a,b:7/db?port=6": [("a", 6), ("b", 7)],
    "postgresql://[::1]:7,[fe80::1]/db": [("::1", 7), ("fe80::1", 5432)],
    "postgresql://h/db": [("h", 5432)],
    "postgresql:///db": [],
}


@pytest.mark.parametrize("url", ADDRESSES)
def test_hosts_are_read_from_both_forms_of_an_address(url):
    assert hosts_of(url) == [Host(*one) for one in ADDRESSES[url]]


@pytest.mark.parametrize("target", ["standby", "prefer-standby", "read-only", "x"])
def test_a_target_that_takes_no_writes_is_refused(target):
    with pytest.raises(ValueError, match="asks for a host that takes no writes"):
        check_hosts(f"postgresql://a,b/db?target_session_attrs={target}")


def test_hosts_whose_ports_do_not_match_are_refused():
    with pytest.raises(ValueError, match="2 hosts have 3 ports"):
        hosts_of("postgresql:///db?host=a,b&port=1,2,3")


def test_a_port_that_is_no_number_is_refused_without_its_words():
    with pytest.raises(ValueError, match=r"^a port is no number$"):
        hosts_of("postgresql:///db?host=a&port=secret")


def test_a_history_only_goes_on():
    history = History()

    assert not history.check(Identity(7, 1))
    assert not history.check(Identity(7, 1))
    assert history.check(Identity(7, 3))
    with pytest.raises(Unavailable, match="it is on timeline 2, and 3 was seen"):
        history.check(Identity(7, 2))
    with pytest.raises(Unavailable, match="belongs to the cluster 8"):
        history.check(Identity(8, 4))
    assert history.newest == Identity(7, 3)


async def test_the_promoted_host_is_found_and_the_one_that_it_replaced_is_refused():
    async with failover_pair(synchronous=True) as pair:
        pool = PostgresPool(pair.url, deadline_seconds=60.0)
        alone = PostgresPool(pair.url, deadline_seconds=60.0)
        try:
            await pool.fetch(Role.READ, "reach")
            before = pool.history.newest
            await pair.fail_over()

            async def is_back():
                try:
                    ((is_standby,),) = await pool.fetch(Role.READ, "reach")
                except Unavailable:
                    return False
                return not is_standby

            await until(is_back)
            after = pool.history.newest
            assert before is not None
            assert after == Identity(before.system, before.timeline + 1)

            # It comes back as the only one there is, and would take writes.
            pair.standby.crash()
            pair.primary.start()
            with pytest.raises(Unavailable, match="it was replaced: it is on timeline 1"):
                await pool.connect()
            # Who has not seen the promotion cannot know.
            assert await alone.fetch(Role.READ, "reach") == [(False,)]
        finally:
            await pool.close()
            await alone.close()
