"""A document as a source of pydantic settings, from a real server: environment variables win, and so do arguments."""

from __future__ import annotations

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings

from cfgsync_documents import ConfigNotReady
from cfgsync_documents.integrations.pydantic_settings import CfgsyncSettingsSource
from cfgsync_runtime.testing import serving_config

NOWHERE = "http://127.0.0.1:9"


def settings_of(url: str, **more) -> type[BaseSettings]:
    class Settings(BaseSettings):
        players: int = 50
        ratio: float = 1.0
        modes: list[str] = Field(default=[], alias="game-modes")

        @classmethod
        def settings_customise_sources(
            cls, settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
        ):
            document = CfgsyncSettingsSource(settings_cls, url, "limits", env="production", **more)
            return init_settings, env_settings, document

    return Settings


def test_a_document_gives_settings_and_variables_and_arguments_win(monkeypatch):
    limits = {"players": 60, "ratio": 2, "game-modes": ["a"], "not_a_setting": 1}
    with serving_config({"limits": limits}, env="production") as server:
        settings = settings_of(server.url)
        read = settings()
        assert (read.players, read.ratio, read.modes) == (60, 2.0, ["a"])
        monkeypatch.setenv("PLAYERS", "70")
        assert settings().players == 70
        assert settings(players=80).players == 80
        server.set("limits", {"ratio": 3})
        assert settings().ratio == 3.0
        server.delete("limits")
        monkeypatch.delenv("PLAYERS")
        assert settings().players == 50
        server.set("limits", ["no", "object"])
        assert settings().players == 50
        assert server.get("limits") == ["no", "object"]
        assert server.get("absent") is None


def test_without_a_server_settings_are_refused_or_go_on_when_the_document_is_optional(caplog):
    with pytest.raises(
        ConfigNotReady, match=r"the document limits of http://127.0.0.1:9 are not there: .*refused"
    ):
        settings_of(NOWHERE, within=0.3)()
    assert settings_of(NOWHERE, within=0.3, optional=True)().players == 50
    assert "going on without" in caplog.text
