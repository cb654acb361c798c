"""A document as a source of a program's settings: read once, when the settings are made; sources before it win.

class Settings(BaseSettings):
    players: int = 50

    @classmethod
    def settings_customise_sources(cls, settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings):
        document = CfgsyncSettingsSource(settings_cls, "http://127.0.0.1:4400", "limits", env="production")
        return init_settings, env_settings, dotenv_settings, document      # environment variables win
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any, Final

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from cfgsync_core.log_events import event

from ..client.blocking import BlockingConfigManager
from ..client.definition import ConfigNotReady, ConfigUpdate

WITHIN: Final = 5.0

log = logging.getLogger("cfgsync.documents")


class CfgsyncSettingsSource(PydanticBaseSettingsSource):
    """The members of one document as values of the fields with their names, or aliases; other members are ignored. An absent
    document gives nothing. It is read once, within `within` seconds; else `ConfigNotReady`, or nothing with `optional`.

    `token_file`, `ca_file` and `ca_hash` as for `ConfigManager.connect`.
    """

    def __init__(
        self,
        settings_cls: type[BaseSettings],
        url: str,
        name: str,
        *,
        app: str = "default",
        env: str = "default",
        namespace: str = "default",
        token_file: str | None = None,
        ca_file: str | None = None,
        ca_hash: str | None = None,
        within: float = WITHIN,
        optional: bool = False,
    ) -> None:
        super().__init__(settings_cls)
        self._url = url
        self._name = name
        self._place = {"app": app, "env": env, "namespace": namespace}
        self._manager = BlockingConfigManager.connect(
            url, token_file=token_file, ca_file=ca_file, ca_hash=ca_hash
        )
        self._within = within
        self._optional = optional

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """See `PydanticBaseSettingsSource`; the values of a document need no decoding."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        data = self._read()
        if not isinstance(data, dict):
            return {}
        fields = self.settings_cls.model_fields
        names = {
            name for field, info in fields.items() for name in (field, info.alias, info.validation_alias)
        }
        return {name: value for name, value in data.items() if name in names}

    def _read(self) -> object:
        first: Future[ConfigUpdate] = Future()

        def take(update: ConfigUpdate) -> None:
            if not first.done():
                first.set_result(update)

        with self._manager as manager:
            manager.watch(self._name, take, **self._place)
            try:
                return first.result(self._within).data
            except TimeoutError:
                why = manager.why(self._place["app"], self._place["env"]) or "no answer in time"
        words = f"the settings in the document {self._name} of {self._url} are not there: {why}"
        if not self._optional:
            raise ConfigNotReady(words)
        log.warning("%s; going on without", words, extra=event("settings_unread", document=self._name))
        return None
