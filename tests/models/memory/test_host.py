"""Free memory on hosts and in containers, from files as Linux writes them."""

import pytest

from models.memory.host import free_host_memory

MIB = 2**20
UNLIMITED = {1: "9223372036854771712", 2: "max"}
NAMES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}


class Machine:
    """A file system of a host with 8000 MiB available."""

    def __init__(self, root):
        self.root = root
        self.write("proc/meminfo", "MemTotal:       16384000 kB\nMemFree: 1 kB\nMemAvailable:    8192000 kB\n")

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def belongs(self, version, path):
        line = f"0::{path}" if version == 2 else f"4:cpu,cpuacct:/x\n3:memory:{path}\n0::/"
        self.write("proc/self/cgroup", line + "\n")

    def limits(self, version, path, limit, used=0, idle=0):
        """Limit, usage and idle cache of a group in MiB; limit None: none."""
        group = f"sys/fs/cgroup{'/memory' if version == 1 else ''}{path}"
        limit = UNLIMITED[version] if limit is None else str(limit * MIB)
        for name, value in zip(NAMES[version], (limit, used * MIB), strict=True):
            self.write(f"{group}/{name}", f"{value}\n")
        total = f"total_inactive_file {idle * MIB}\n" if version == 1 else ""
        own = 0 if version == 1 else idle * MIB  # version 1 counts those below a group in the total only
        self.write(f"{group}/memory.stat", f"cache 5\ninactive_file {own}\n{total}unevictable 0\n")

    @property
    def free(self):
        return free_host_memory(self.root) / MIB


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


both = pytest.mark.parametrize("version", [1, 2])


def test_without_control_groups_it_is_what_the_kernel_calls_available(machine):
    assert machine.free == 8000


def test_without_a_kernel_that_says_so_it_is_half_of_all(tmp_path):
    assert 2**27 < free_host_memory(tmp_path) < 2**46


@both
def test_idle_file_cache_does_not_count_as_used(machine, version):
    machine.belongs(version, "/")
    machine.limits(version, "", 4000, used=3900, idle=2900)
    assert machine.free == 3000


@both
def test_a_limit_that_is_none_and_one_above_what_the_host_has(machine, version):
    machine.belongs(version, "/")
    machine.limits(version, "", None, used=100)
    assert machine.free == 8000
    machine.limits(version, "", 100_000, used=100)
    assert machine.free == 8000


@both
def test_the_tightest_of_the_groups_around_a_process_counts(machine, version):
    machine.belongs(version, "/a/b")
    machine.limits(version, "/a/b", 4000, used=1000)
    machine.limits(version, "/a", 5000, used=4500)
    machine.limits(version, "/other", 10, used=10)
    assert machine.free == 500
    machine.limits(version, "/a", None, used=4500)
    assert machine.free == 3000


@both
@pytest.mark.parametrize("name", ["/docker/0123abc", "/../../elsewhere"])
def test_in_a_container_the_topmost_group_is_its_own_whatever_the_host_calls_it(machine, version, name):
    machine.belongs(version, name)
    machine.limits(version, "", 2000, used=500)
    assert machine.free == 1500


@both
def test_more_than_the_limit_leaves_nothing(machine, version):
    machine.belongs(version, "/")
    machine.limits(version, "", 1000, used=1200)
    assert machine.free == 0
    machine.limits(version, "", 1000, used=10, idle=20)  # read one after the other, they need not agree
    assert machine.free == 1000


def test_without_a_word_about_idle_cache_there_is_none(machine):
    machine.belongs(2, "/")
    machine.limits(2, "", 1000, used=100)
    machine.write("sys/fs/cgroup/memory.stat", "anon 5\n")
    assert machine.free == 900
