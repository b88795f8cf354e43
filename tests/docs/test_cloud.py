"""The guide of object stores: its settings are taken, and every service's options by the driver."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from server.config.settings import ServerConfig
from storage.config import CloudStorage
from storage.errors import NotPermitted
from storage.files.objects import open_bucket

PAGE = (Path(__file__).parents[2] / "docs" / "cloud.md").read_text()
KEY = {"PARLEY_SECRET_KEY": "a long random text"}
VALUES = {
    "endpoint": "http://127.0.0.1:9",
    "server_side_encryption": "aws:kms",
    "account_key": "b25l",
    "sas_key": "sv=1&sig=one",
}
"""Of the options that the driver reads at once."""
SERVICES = re.findall(r"^\| [^|]+ \| `(\w+://[^`]+)` \| (.+) \|$", PAGE, re.MULTILINE)


def test_the_settings_of_the_guide_are_taken(tmp_path):
    lines = PAGE.split("```toml\n")[1].split("```")[0]
    (tmp_path / "parley.toml").write_text(lines)

    config = ServerConfig.load(environ=KEY, toml_path=tmp_path / "parley.toml")

    storage = config.storage
    assert isinstance(storage, CloudStorage)
    assert storage.url == tomllib.loads(lines)["cloud_url"]
    assert storage.options is not None
    assert json.loads(storage.options.get_secret_value()) == tomllib.loads(lines)["cloud_options"]


def test_the_variables_of_the_guide_are_taken():
    lines = PAGE.split("```sh\n")[1].split("```")[0]
    variables = dict(re.findall(r"^(\w+)='(.*)'$", lines, re.MULTILINE))

    config = ServerConfig.load({"storage_kind": "cloud"}, environ=variables)

    assert isinstance(config.storage, CloudStorage)


@pytest.mark.parametrize(("url", "told"), SERVICES)
def test_the_driver_knows_the_options_of_each_service(url, told):
    options = {name: VALUES.get(name, "one") for name in re.findall(r"`(\w+)`", told)}

    if "service_account" in options:
        # It reads the file at once: that it is missing says that the option is known.
        for name in options:
            with pytest.raises(NotPermitted, match="GenericError"):
                open_bucket(url, {name: "/no/such/file"}, "files")
        return
    assert open_bucket(url, options, "files").prefix == "folder/files"


def test_the_services_of_the_guide_are_all_that_an_url_may_name():
    assert {url.split("://")[0] for url, _ in SERVICES} == {"s3", "gs", "az"}
