"""`cloud-mirror.toml`, then the environment, then flags: from these three the core's `Policy`.

The settings' names, types and defaults are those of the dataclasses in `cloud_mirror.policy`; the models here
are derived from them and add only what a person may get wrong: sizes such as "16MiB", ranges, and words. The
environment's `CLOUD_MIRROR__REDIS__URL` is the file's `redis.url`. Secrets come from the environment alone:
the admin token from `CLOUD_MIRROR_ADMIN_TOKEN`, or from the file that `CLOUD_MIRROR_ADMIN_TOKEN_FILE` names.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from cloud_mirror.policy import Policy, PoolPolicy, QueuePolicy, RedisPolicy, ServerPolicy, SourcePolicy, WorkerPolicy
from cloud_mirror_command import rules
from cloud_mirror_command.complaint import Complaint

CONFIG_VARIABLE: Final = "CLOUD_MIRROR_CONFIG"
DEFAULT_FILE: Final = Path("cloud-mirror.toml")
TOKEN_VARIABLE: Final = "CLOUD_MIRROR_ADMIN_TOKEN"  # noqa: S105  # a name
TOKEN_FILE_VARIABLE: Final = "CLOUD_MIRROR_ADMIN_TOKEN_FILE"  # noqa: S105  # a name
PREFIX: Final = "CLOUD_MIRROR__"
DELIMITER: Final = "__"

SECTIONS: Final[Mapping[str, type]] = {
    "server": ServerPolicy,
    "redis": RedisPolicy,
    "queue": QueuePolicy,
    "source": SourcePolicy,
    "worker": WorkerPolicy,
}
FILE_NAMES: Final = {"part_bytes": "part_size", "memory_budget_bytes": "memory_budget"}
"""Where the file calls a setting otherwise than the core, which puts the unit into the name."""


class ConfigError(Complaint):
    """The configuration cannot be used. The text is one line that names file (or variable), key and remedy."""


def load(path: Path | None = None, overrides: Mapping[str, Mapping[str, object]] | None = None) -> Policy:
    """The policy that file, environment and `overrides` (from flags: section → setting → value) give together.

    The file is `path`, else the one that `CLOUD_MIRROR_CONFIG` names, else `cloud-mirror.toml` here, if there is
    one. Raises `ConfigError`.
    """
    file = _find(path)
    flags = {section: dict(values) for section, values in (overrides or {}).items()}
    where = _Where(file, flags)
    policy = _to_policy(_read(file, flags, where))
    for key, complaint in rules.complaints(policy):
        raise where.error(key, complaint)
    return policy


def admin_token() -> str:
    """The token that a purge must bring, or "" where none is set. Raises `ConfigError`."""
    token, file = os.environ.get(TOKEN_VARIABLE, ""), os.environ.get(TOKEN_FILE_VARIABLE, "")
    if not token and file:
        try:
            token = Path(file).read_text("utf-8")
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"environment: {TOKEN_FILE_VARIABLE}: cannot be read ({_why(error)})") from error
    token = token.strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(f"environment: {TOKEN_VARIABLE}: must be printable ASCII without spaces")
    return token


def _model(name: str, policy: type) -> type[BaseModel]:
    """The model of one section: the dataclass's fields, under the file's names and with the file's checks."""
    hints = get_type_hints(policy)
    definitions: dict[str, Any] = {}
    for field in fields(policy):
        default = ... if field.default is MISSING else field.default
        definitions[FILE_NAMES.get(field.name, field.name)] = (_annotation(field.name, hints[field.name]), default)
    model: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid"), **definitions)
    return model


def _annotation(name: str, hint: Any) -> Any:
    """The type that a setting is read as: numbers with their range, bytes as sizes, words with their check."""
    if hint == int | None:
        return _annotation(name, int) | None
    if hint in (int, float):
        kind = ByteSize if name.endswith(("_bytes", "_bytes_per_s")) else hint
        limits = Field(allow_inf_nan=False) if hint is float else Field()
        return Annotated[kind, limits, BeforeValidator(rules.no_boolean), AfterValidator(rules.number(name))]
    if (check := rules.WORDS.get(name)) is not None:
        return Annotated[hint, AfterValidator(check)]
    return hint


_POOL: Final = _model("pool", PoolPolicy)
_MODELS: Final = {name: _model(name, policy) for name, policy in SECTIONS.items()}
_DEFINITIONS: Final[dict[str, Any]] = {
    **{name: (model, Field(default_factory=model)) for name, model in _MODELS.items()},
    "pool": (list[_POOL], Field(default_factory=list)),  # type: ignore[valid-type]  # made at run time
}


class _Base(BaseSettings):
    model_config = SettingsConfigDict(
        extra="forbid", env_prefix=PREFIX, env_nested_delimiter=DELIMITER, env_ignore_empty=True
    )


_Settings: Final[type[_Base]] = create_model("_Settings", __base__=_Base, **_DEFINITIONS)


def _find(path: Path | None) -> Path | None:
    """The file to read, which is there, or None."""
    named = path or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    if named is None:
        return DEFAULT_FILE if DEFAULT_FILE.is_file() else None
    if not named.exists():
        raise ConfigError(f"{named}: there is no such file; name another with --config or {CONFIG_VARIABLE}")
    return named


def _read(file: Path | None, flags: dict[str, dict[str, object]], where: _Where) -> _Base:
    """The settings of all three places, later ones over earlier ones, each of the right type and range."""
    tables = _tables(file)

    class Sources(_Settings):  # type: ignore[misc, valid-type]  # made at run time
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **_: object
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            environment = EnvSettingsSource(settings_cls)
            return (init_settings, environment, InitSettingsSource(settings_cls, init_kwargs=tables))

    try:
        settings: _Base = Sources(**flags)
    except ValidationError as error:
        raise where.explain(error.errors(include_url=False)[0]) from None
    except SettingsError as error:
        raise ConfigError(f"environment: {error}; a list or a table is given as JSON") from None
    where.check_variables()
    return settings


def _tables(file: Path | None) -> dict[str, Any]:
    """What the file says. Not read by pydantic-settings, which passes over what is no plain file, such as a pipe."""
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from None
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({_why(error)})") from None


def _to_policy(settings: _Base) -> Policy:
    """The core's values out of the models."""
    sections = {name: _values(policy, getattr(settings, name)) for name, policy in SECTIONS.items()}
    pools: list[BaseModel] = getattr(settings, "pool")  # noqa: B009  # a field made at run time
    return Policy(
        **{name: policy(**sections[name]) for name, policy in SECTIONS.items()},
        pools=tuple(PoolPolicy(**_values(PoolPolicy, pool)) for pool in pools),
        admin_token=admin_token(),
    )


def _values(policy: type, model: BaseModel) -> dict[str, Any]:
    values = {field.name: getattr(model, FILE_NAMES.get(field.name, field.name)) for field in fields(policy)}
    return {name: int(value) if isinstance(value, ByteSize) else value for name, value in values.items()}


class _Where:
    """Knows which of the three places a setting came from, and says so."""

    def __init__(self, file: Path | None, flags: Mapping[str, Mapping[str, object]]) -> None:
        self._file = file
        self._flags = flags

    def error(self, key: tuple[str | int, ...], complaint: str) -> ConfigError:
        """The complaint about one setting."""
        if len(key) > 1 and key[1] in self._flags.get(str(key[0]), {}):
            return ConfigError(f"command line: --{str(key[1]).replace('_', '-')}: {complaint}")
        for length in range(len(key), 0, -1):
            variable = PREFIX + DELIMITER.join(str(part) for part in key[:length]).upper()
            if variable in os.environ:
                inner = f"{_dotted(key[length:])}: " if key[length:] else ""
                return ConfigError(f"environment: {variable}: {inner}{complaint}")
        return ConfigError(f"{self._file or DEFAULT_FILE}: {_dotted(key)}: {complaint}")

    def explain(self, details: ErrorDetails) -> ConfigError:
        """The complaint that one of pydantic's errors comes to. The value itself is never shown."""
        key = details["loc"]
        match details["type"]:
            case "extra_forbidden":
                return self.error(key, _unknown(str(key[-1]), _known(key)))
            case "missing":
                return self.error(key, "missing; it has no default")
            case "model_type" | "model_attributes_type":
                return self.error(key, f"must be a table, written as [{key[0]}]")
            case "list_type":
                header = f"; each pool is written as [[{key[0]}]]" if key == ("pool",) else ""
                return self.error(key, f"must be a list{header}")
            case "byte_size" | "byte_size_unit":
                return self.error(key, 'must be a size such as "16MiB", or a number of bytes')
            case "value_error":
                return self.error(key, str(details.get("ctx", {}).get("error", details["msg"])))
            case _:
                return self.error(key, details["msg"].replace("Input should be", "must be"))

    def check_variables(self) -> None:
        """pydantic-settings passes over variables of a section that there is none of: a slip there would be lost."""
        for variable in sorted(os.environ):
            if variable.startswith(PREFIX):
                section = variable.removeprefix(PREFIX).split(DELIMITER)[0].lower()
                if section not in _DEFINITIONS:
                    raise ConfigError(f"environment: {variable}: {_unknown(section, tuple(_DEFINITIONS))}")


def _known(key: tuple[str | int, ...]) -> tuple[str, ...]:
    """The names that could stand in that place."""
    if len(key) == 1:
        return tuple(_DEFINITIONS)
    return tuple((_POOL if key[0] == "pool" else _MODELS[str(key[0])]).model_fields)


def _unknown(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f'unknown key; did you mean "{close[0]}"?' if close else f"unknown key; known here: {', '.join(known)}"


def _dotted(key: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


def _why(error: OSError | UnicodeError) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "it is not UTF-8"
