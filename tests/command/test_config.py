"""The configuration: three places, one policy, and one clear line for whatever is wrong."""

from dataclasses import fields
from pathlib import Path

import pytest

from cloud_mirror.policy import (
    GIB,
    MIB,
    OnDeadline,
    Policy,
    PoolPolicy,
    QueuePolicy,
    RedisPolicy,
    ServerPolicy,
    SourcePolicy,
    WorkerPolicy,
)
from cloud_mirror_command.config import ConfigError, load

POOL = """
[[pool]]
service = "s3"
region = "us-west-1"
bucket = "cloud-mirror-us-west-1"
"""

WHOLE = r"""
[server]
host = "127.0.0.1"
port = 8080
max_wait_s = 28.0
on_deadline = "fail"
[redis]
url = "redis://127.0.0.1:6379/0"
[queue]
prefix = "cloud-mirror"
region = "us-west-2"
endpoint_url = "http://127.0.0.1:5000"
visibility_timeout_s = 60
max_receive_count = 5
[source]
allowed_patterns = ['^http://localhost:9000/']
require_tls = false
redirect_limit = 20
allow_private_addresses = true
max_object_bytes = "100GiB"
[worker]
concurrency = 16
part_size = "16MiB"
memory_budget = "512MiB"
lease_s = 60.0
[[pool]]
service = "s3"
region = "us-west-1"
bucket = "cloud-mirror-us-west-1"
endpoint_url = "http://127.0.0.1:5000"
public_url = "http://127.0.0.1:5000/cloud-mirror-us-west-1"
lifespan_days = 1
acl = ""
redirect = "public"
"""


def write(text: str, name: str = "cloud-mirror.toml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def complaint(text: str) -> str:
    write(text)
    with pytest.raises(ConfigError) as caught:
        load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_setting_reaches_the_policy() -> None:
    write(WHOLE)
    assert load() == Policy(
        server=ServerPolicy(on_deadline=OnDeadline.FAIL),
        queue=QueuePolicy(endpoint_url="http://127.0.0.1:5000"),
        source=SourcePolicy(("^http://localhost:9000/",), require_tls=False, allow_private_addresses=True),
        pools=(
            PoolPolicy(
                "s3",
                "us-west-1",
                "cloud-mirror-us-west-1",
                endpoint_url="http://127.0.0.1:5000",
                public_url="http://127.0.0.1:5000/cloud-mirror-us-west-1",
            ),
        ),
    )


def test_what_is_not_set_has_the_cores_default() -> None:
    write(POOL)
    assert load() == Policy(pools=(PoolPolicy("s3", "us-west-1", "cloud-mirror-us-west-1"),))


NUMBERS = {
    (section, field.name)
    for section, policy in (("server", ServerPolicy), ("queue", QueuePolicy), ("worker", WorkerPolicy))
    for field in fields(policy)
    if isinstance(field.default, (int, float)) and not isinstance(field.default, bool)
}


@pytest.mark.parametrize(("section", "name"), sorted(NUMBERS))
def test_every_number_of_the_policy_can_be_set(section: str, name: str) -> None:
    in_file = {"part_bytes": "part_size", "memory_budget_bytes": "memory_budget"}.get(name, name)
    value = {"part_bytes": 6 * MIB, "memory_budget_bytes": 600 * MIB}.get(name, 7)
    write(f"[{section}]\n{in_file} = {value}\n{POOL}")
    assert getattr(getattr(load(), section), name) == value


@pytest.mark.parametrize(
    ("size", "expected"), [('"16MiB"', 16 * MIB), ("6000000", 6_000_000), ('"1GiB"', GIB), ('"6 MB"', 6_000_000)]
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(size: str, expected: int) -> None:
    write(f'[worker]\npart_size = {size}\nmemory_budget = "2GiB"\n{POOL}')
    assert load().worker.part_bytes == expected


def test_the_environment_goes_over_the_file_and_flags_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    write(f"[server]\nport = 1\nhost = 'a'\nmax_waiters = 1\n{POOL}")
    monkeypatch.setenv("CLOUD_MIRROR__SERVER__PORT", "2")
    monkeypatch.setenv("CLOUD_MIRROR__SERVER__HOST", "b")
    monkeypatch.setenv("CLOUD_MIRROR__REDIS__URL", "rediss://u:p@cache:6380/1")
    monkeypatch.setenv("CLOUD_MIRROR__SOURCE__ALLOWED_PATTERNS", '["^https://b/"]')
    monkeypatch.setenv("CLOUD_MIRROR__WORKER__PART_SIZE", "8MiB")
    policy = load(None, {"server": {"port": 3}})
    assert (policy.server.port, policy.server.host, policy.server.max_waiters) == (3, "b", 1)
    assert policy.redis == RedisPolicy("rediss://u:p@cache:6380/1")
    assert policy.source.allowed_patterns == ("^https://b/",)
    assert policy.worker.part_bytes == 8 * MIB


def test_the_file_is_the_one_named_else_the_variables_else_the_one_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for port, name in ((1, "named.toml"), (2, "variable.toml"), (3, "cloud-mirror.toml")):
        write(f"[server]\nport = {port}\n{POOL}", name)
    assert load().server.port == 3
    monkeypatch.setenv("CLOUD_MIRROR_CONFIG", "variable.toml")
    assert load().server.port == 2
    assert load(Path("named.toml")).server.port == 1


def test_the_admin_token_comes_from_the_environment_or_a_file_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(POOL)
    assert load().admin_token == ""
    Path("token").write_text("from-a-file\n")
    monkeypatch.setenv("CLOUD_MIRROR_ADMIN_TOKEN_FILE", "token")
    assert load().admin_token == "from-a-file"
    monkeypatch.setenv("CLOUD_MIRROR_ADMIN_TOKEN", "from-the-environment")
    assert load().admin_token == "from-the-environment"
    assert "from-" not in repr(load())
    monkeypatch.setenv("CLOUD_MIRROR_ADMIN_TOKEN", "two words")
    with pytest.raises(ConfigError, match="CLOUD_MIRROR_ADMIN_TOKEN: must be printable ASCII") as caught:
        load()
    assert "two words" not in str(caught.value)


def test_a_token_file_that_cannot_be_read_is_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    write(POOL)
    monkeypatch.setenv("CLOUD_MIRROR_ADMIN_TOKEN_FILE", "nothing-here")
    with pytest.raises(ConfigError, match="CLOUD_MIRROR_ADMIN_TOKEN_FILE: cannot be read"):
        load()


def test_the_admin_token_is_not_taken_from_the_file() -> None:
    assert "admin_token: unknown key" in complaint('admin_token = "x"\n' + POOL)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("[server]\nprot = 1", 'server.prot: unknown key; did you mean "port"?'),
        ("[server]\nxyzzy = 1", "server.xyzzy: unknown key; known here: host, port"),
        ("[sever]\nport = 1", 'sever: unknown key; did you mean "server"?'),
        ("server = 1", "server: must be a table, written as [server]"),
        ("[server]\nport = 'eighty'", "server.port: must be a valid integer"),
        ("[server]\nport = true", "server.port: must be a number, not true or false"),
        ("[server]\nport = 65536", "server.port: must be at most 65535"),
        ("[server]\nmax_wait_s = -1", "server.max_wait_s: must be at least 0"),
        ("[server]\nmax_wait_s = nan", "server.max_wait_s: must be a finite number"),
        ("[server]\non_deadline = 'wait'", "server.on_deadline: must be 'origin' or 'fail'"),
        ("[redis]\nurl = 'http://u:hunter2@cache'", "redis.url: must be a URL such as redis://host:6379/0"),
        ("[redis]\nurl = 'redis://u:hunter2@cache/notadb'", "redis.url: must be a URL such as redis://host:6379/0"),
        ("[redis]\nurl = 'redis://u:hunter2@cache/0/1'", "redis.url: must be a URL such as redis://host:6379/0"),
        ("[worker]\nport = 70000", "worker.port: must be at most 65535"),
        ("[worker]\nport = true", "worker.port: must be a number, not true or false"),
        ("[worker]\nport = 'eighty'", "worker.port: must be a valid integer"),
        ("[queue]\nvisibility_timeout_s = 43201", "queue.visibility_timeout_s: must be at most 43200"),
        ("[queue]\nvisibility_timeout_s = 0", "queue.visibility_timeout_s: must be at least 1"),
        ("[queue]\nendpoint_url = 'localhost:5000'", "queue.endpoint_url: must be a URL such as https://host"),
        (f"[queue]\nprefix = '{'p' * 80}'", "queue.prefix: too long: the queue"),
        ("[queue]\nprefix = 'a b'", "queue.prefix: must be letters, digits"),
        ("[source]\nallowed_patterns = ['https://a/']", "source.allowed_patterns: "),
        ("[source]\nallowed_patterns = ['^https://a(/']", "source.allowed_patterns: "),
        ("[source]\nallowed_patterns = 'x'", "source.allowed_patterns: "),
        ("[source]\nmax_object_bytes = '1 furlong'", 'max_object_bytes: must be a size such as "16MiB"'),
        ("[worker]\nlease_s = 50000", "worker.lease_s: must be at most 43200"),
        ("[worker]\nlease_s = 0", "worker.lease_s: must be at least 0.1"),
        ("[worker]\nfirst_backoff_s = -1", "worker.first_backoff_s: must be at least 0"),
        ("[worker]\nlongest_backoff_s = 50000", "worker.longest_backoff_s: must be at most 43200"),
        ("[worker]\npart_size = '4MiB'", "worker.part_size: must be at least 5MiB"),
        ("[worker]\npart_size = '6GiB'", "worker.part_size: must be at most 5GiB"),
        ("[worker]\npart_size = '6MiB'\nmemory_budget = '5MiB'", "worker.memory_budget: must be at least as much"),
        (
            "[worker]\nconcurrency = 1000\nmemory_budget = '16MiB'",
            "for two parts of 5MiB for each copy: worker.concurrency is 1000; lower that, or raise this",
        ),
        ("[server]\nmax_wait_s = 0", "server.max_wait_s: must be at least 0.1"),
        ("[queue]\npatience_s = 0", "queue.patience_s: must be at least 1"),
        ("[worker]\nconcurrency = 0", "worker.concurrency: must be at least 1"),
        ("[[pool]]\nservice = 's3'\nregion = 'us_west'\nbucket = 'abc'", "pool[0].region: must be lower-case letters"),
        (
            "[[pool]]\nservice = 's_3'\nregion = 'us-west'\nbucket = 'abc'",
            "pool[0].service: must be lower-case letters",
        ),
        ("[[pool]]\nservice = 's3'\nregion = 'us-west'", "pool[0].bucket: missing"),
        ("[[pool]]\nservice = 's3'\nregion = 'eu'\nbucket = 'a/b'", "pool[0].bucket: must be a bucket's name"),
        (
            POOL + "lifespan_days = 1\nrefresh_margin_s = 86400",
            "pool[0].refresh_margin_s: must be less than lifespan_days, which is 86400 s: every copy",
        ),
        (
            POOL + "lifespan_days = 1\nexpiry_margin_s = 200000",
            "pool[0].expiry_margin_s: must be less than lifespan_days, which is 86400 s",
        ),
        (
            POOL + "expiry_margin_s = 601\nrefresh_margin_s = 600",
            "pool[0].expiry_margin_s: must be at most refresh_margin_s: a copy is made anew while it still serves",
        ),
        (POOL + "acl = 'public'", "pool[0].acl: must be one of"),
        (POOL + "redirect = 'presigned'", "pool[0].redirect: must be one of 'public'"),
        (POOL + "public_url = 'https://a/?b'", "pool[0].public_url: must be a URL"),
        (POOL, "pool[1]: there are two pools of the name s3_us-west-1; remove one"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_file_key_and_remedy(head: str, expected: str) -> None:
    said = complaint(f"{head}\n{POOL}")
    assert said.startswith("cloud-mirror.toml: ")
    assert expected in said
    assert "hunter2" not in said


def test_margins_may_be_equal_and_as_long_as_a_life_leaves_room() -> None:
    write(f"{POOL}lifespan_days = 2\nrefresh_margin_s = 172799\nexpiry_margin_s = 172799")
    assert load().pools[0].refresh_margin_s == 172_799


def test_a_configuration_without_a_pool_is_refused() -> None:
    assert complaint("") == (
        "cloud-mirror.toml: pool: there is no pool; add a [[pool]] with service, region and bucket"
    )


def test_bad_toml_is_placed() -> None:
    assert "cloud-mirror.toml: not valid TOML: " in (said := complaint("[server]\nport =\n"))
    assert "line 2, column" in said


def test_a_file_that_is_not_there_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^other\.toml: there is no such file; name another with --config"):
        load(Path("other.toml"))
    Path("directory").mkdir()
    with pytest.raises(ConfigError, match=r"^directory: cannot be read"):
        load(Path("directory"))
    Path("latin").write_bytes(b'a = "\xe9"')
    with pytest.raises(ConfigError, match=r"^latin: cannot be read \(it is not UTF-8\)"):
        load(Path("latin"))


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("CLOUD_MIRROR__SERVER__PROT", "1", 'unknown key; did you mean "port"?'),
        ("CLOUD_MIRROR__SEVER__PORT", "1", 'unknown key; did you mean "server"?'),
        ("CLOUD_MIRROR__SERVER__PORT", "x", "must be a valid integer"),
        ("CLOUD_MIRROR__REDIS__URL", "unix://hunter2", "must be a URL such as redis://host:6379/0"),
        ("CLOUD_MIRROR__POOL", '[{"service": "s3", "region": "eu"}]', "[0].bucket: missing"),
    ],
)
def test_a_slip_in_the_environment_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)
    said = complaint(POOL)
    assert said.startswith(f"environment: {variable}: ")
    assert expected in said
    assert "hunter2" not in said


def test_a_list_in_the_environment_that_is_no_json_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_MIRROR__POOL", "s3")
    assert "JSON" in complaint(POOL)


@pytest.mark.parametrize("path", ["", "/", "/0", "/15"])
def test_a_cache_is_named_with_its_database_or_without(path: str) -> None:
    write(f"[redis]\nurl = 'redis://cache:6379{path}'\n{POOL}")
    assert load().redis.url == f"redis://cache:6379{path}"


def test_a_slip_in_a_flag_names_the_flag() -> None:
    write(POOL)
    with pytest.raises(ConfigError, match=r"^command line: --port: must be at most 65535$"):
        load(None, {"worker": {"port": 70_000}})
    with pytest.raises(ConfigError, match=r"^command line: --port: must be at most 65535$"):
        load(None, {"server": {"port": 70_000}})
