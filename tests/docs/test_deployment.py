"""The image and the compose files name what there is, and docs/deployment.md shows them as they are."""

import re
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from server.config.settings import ServerConfig

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
FILES = sorted(DEPLOY.glob("compose*.yaml"))
VARIABLE = re.compile(r"\$\{(\w+):\?[^}]*\}")
LOCKS = {"runtime", "llm", "cloud", "postgres", "cluster"}
"""The locks of requirements/ that an image may hold."""


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def services():
    """Each service of a compose file that is a server of ours, with the file it is in."""
    return [
        pytest.param(path, service, id=f"{path.stem}-{name}")
        for path in FILES
        for name, service in read(path)["services"].items()
        if "build" in service
    ]


def instructions(stage):
    """The instructions of a stage of the Dockerfile, each with its lines joined."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    _, _, rest = joined.partition(f" AS {stage}\n")
    return [line for line in rest.split("\nFROM ")[0].splitlines() if line]


def environment_of_the_image():
    (line,) = [one for one in instructions("parley") if one.startswith("ENV ")]
    return dict(pair.split("=", 1) for pair in line.removeprefix("ENV ").split())


def of_parley(environment):
    """The variables that the server reads, with each text that an operator supplies filled in."""
    return {
        name: VARIABLE.sub("a" * 40, str(value))
        for name, value in environment.items()
        if name.startswith("PARLEY_") or name == "SESSION_API_KEY"
    }


def test_there_are_compose_files_for_both_kinds_of_storage():
    kinds = {service.values[1]["environment"]["PARLEY_STORAGE"] for service in services()}

    assert kinds == {"sqlite", "postgres"}


@pytest.mark.parametrize(("path", "service"), services())
def test_the_settings_of_a_service_are_settings_of_the_server(path, service, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    variables = {**of_parley(environment_of_the_image()), **of_parley(service["environment"])}

    config = ServerConfig.load(environ=variables)

    assert config.host == "0.0.0.0"  # noqa: S104 - a container has an address of its own
    assert config.storage.kind == service["environment"]["PARLEY_STORAGE"]


@pytest.mark.parametrize(("path", "service"), services())
def test_a_service_is_built_from_a_stage_with_the_locks_it_needs(path, service):
    build = service["build"]
    extras = set(build["args"]["EXTRAS"].split())
    needed = {service["environment"]["PARLEY_AGENT_CLASS"]}
    is_node = service["environment"].get("PARLEY_NODES") == "many"
    needed |= {"cluster" if is_node else service["environment"]["PARLEY_STORAGE"]} & LOCKS

    assert (path.parent / build["context"]).resolve() == ROOT
    assert instructions(build["target"])
    assert needed <= extras <= LOCKS
    assert all((ROOT / "requirements" / f"{name}.txt").is_file() for name in extras)


@pytest.mark.parametrize(("path", "service"), services())
def test_a_service_has_no_rights_and_writes_to_volumes_alone(path, service):
    writable = {one.split(":")[1] for one in service.get("volumes", [])}
    writable |= {one.split(":")[0] for one in service["tmpfs"]}

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"/tmp", "/var/lib/parley"} == writable  # noqa: S108 - a path in the container


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_one_service_of_a_file_can_be_reached_and_from_this_machine_only(path):
    ports = [one for service in read(path)["services"].values() for one in service.get("ports", [])]

    assert ports == [f"127.0.0.1:3000:{environment_of_the_image()['PARLEY_PORT']}"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_volumes_and_services_that_are_named_are_declared(path):
    file = read(path)
    named = {
        one.split(":")[0]
        for service in file["services"].values()
        for one in service.get("volumes", [])
        if not one.startswith("./")
    }
    waited_for = {
        one for service in file["services"].values() for one in service.get("depends_on", {})
    }

    assert named == set(file["volumes"])
    assert waited_for <= set(file["services"])
    assert all(
        "healthcheck" in file["services"][one] or "build" in file["services"][one]
        for one in waited_for
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_variable_that_an_operator_supplies_is_on_the_page(path):
    wanted = set(VARIABLE.findall(path.read_text(encoding="utf-8")))

    assert {"SESSION_API_KEY", "PARLEY_SECRET_KEY"} <= wanted
    assert all(f"{name}=" in PAGE for name in wanted)
    assert f"deploy/{path.name}" in PAGE


def test_the_image_runs_as_a_user_without_rights():
    lines = instructions("parley")

    assert "USER 10001:10001" in lines
    assert 'ENTRYPOINT ["parley"]' in lines
    assert lines.index("USER 10001:10001") < lines.index('ENTRYPOINT ["parley"]')


def test_the_build_is_sent_what_it_copies_and_nothing_else():
    sent = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = {
        source
        for line in instructions("build")
        if line.startswith("COPY ")
        for source in line.split()[1:-1]
    }

    assert sent == copied
    assert all((ROOT / one).exists() for one in copied)
