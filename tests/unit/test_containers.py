"""docker-compose.yml and the Dockerfile, checked without an engine; what runs is in acceptance."""

import json
import re
import runpy
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from worker.braze.instances import rest_url
from worker.celery_app import QUEUES
from worker.contract import QUEUE_OF_TASK, QueueName
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
COMPOSE = yaml.safe_load(COMPOSE_FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STEADY = [name for name in SERVICES if name != "demo"]
OURS = [name for name, service in SERVICES.items() if "build" in service]

DIGEST = r"(@sha256:[0-9a-f]{64})?"

each_service = pytest.mark.parametrize("name", list(SERVICES))


def tool(name: str) -> str:
    """A development dependency's command."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is missing: it is among the development dependencies"
    return found


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=60
    )


def flags(name: str) -> str:
    """A service's command as one line."""
    return " ".join(" ".join(SERVICES[name]["command"]).split())


class TestPublicRules:
    """What others say a good file is."""

    def test_compose_file_follows_the_public_schema(self) -> None:
        """The Compose Specification's own schema accepts it."""
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
        done = run(*command, "vendor.compose-spec", COMPOSE_FILE)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_dockerfile_has_no_lint(self) -> None:
        """hadolint finds nothing, with every one of its rules on."""
        done = run(tool("hadolint"), "--format", "json", ROOT / "Dockerfile")
        assert json.loads(done.stdout) == []
        assert done.returncode == 0
        assert "hadolint ignore" not in DOCKERFILE

    @pytest.mark.parametrize("script", ["new-secrets.sh", "demo.sh"])
    def test_scripts_are_plain_shell(self, script: str) -> None:
        """A POSIX shell reads them."""
        done = run("sh", "-n", ROOT / "deploy" / script)
        assert done.returncode == 0, done.stderr


class TestImage:
    """What is in the image, and what is not."""

    def test_bases_are_pinned(self) -> None:
        """The base has a patch release in its tag (a digest may follow), and there is one base."""
        outside = [line for line in DOCKERFILE.splitlines() if re.match(r"FROM (?!base)", line)]
        assert len(outside) == 1
        tag = r"FROM python:3\.\d+\.\d+-slim-[a-z]+"
        assert re.fullmatch(rf"{tag}{DIGEST} AS base", outside[0])

    def test_it_runs_as_a_numbered_user(self) -> None:
        """The last user is a fixed number, the one that compose names."""
        users = re.findall(r"^USER (.+)$", DOCKERFILE, re.M)
        assert users == ["10001:10001"]
        assert {SERVICES[name]["user"] for name in OURS} == set(users)

    def test_no_compiler_gets_in(self) -> None:
        """Dependencies are wheels, the last stage installs nothing."""
        last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
        assert "--only-binary=:all:" in DOCKERFILE
        assert not re.search(r"apt-get|pip|build-essential", last)

    def test_it_stops_on_sigterm_and_speaks_at_once(self) -> None:
        """SIGTERM is what Celery takes for a warm stop; output is not buffered."""
        assert "\nSTOPSIGNAL SIGTERM\n" in DOCKERFILE
        assert "PYTHONUNBUFFERED=1" in DOCKERFILE
        assert "HEALTHCHECK" not in DOCKERFILE

    def test_context_holds_only_what_is_copied(self) -> None:
        """Everything is ignored but what a COPY names, so no secret gets into a layer."""
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        rules = [line for line in lines if line and not line.startswith("#")]
        assert rules[0] == "*"
        allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")} - {"deploy"}
        copied: set[str] = set()
        for copy in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M):
            copied |= set(copy.split()[:-1])
        assert allowed == copied
        assert all((ROOT / path).exists() for path in copied)

    def test_versions_are_pinned_and_fit(self) -> None:
        """deploy/constraints.txt pins each dependency to a version that the project accepts."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        lines = (ROOT / "deploy" / "constraints.txt").read_text().splitlines()
        pins = dict(line.lower().split("==") for line in lines if not line.startswith("#"))
        for text in project["dependencies"]:
            wanted = Requirement(text)
            pinned = pins[wanted.name.lower()]
            assert wanted.specifier.contains(pinned), f"{wanted} is pinned to {pinned}"


class TestHardening:
    """What a container may not do."""

    @each_service
    def test_it_has_no_privileges(self, name: str) -> None:
        """Not root, no capability, none to be gained, nothing writable but what is said."""
        service = SERVICES[name]
        assert service["user"] not in ("root", "0", "0:0")
        assert service["cap_drop"] == ["ALL"]
        assert "cap_add" not in service
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert not service.get("privileged")

    @each_service
    def test_it_is_bounded_and_comes_back(self, name: str) -> None:
        """It has a memory limit, a grace, an init, and is started again; the demo runs once."""
        service = SERVICES[name]
        assert service["deploy"]["resources"]["limits"]["memory"]
        assert service["stop_grace_period"]
        assert service["init"] is True
        assert service["restart"] == ("no" if name == "demo" else "unless-stopped")
        assert service["logging"]["options"]["max-size"]

    @pytest.mark.parametrize("name", STEADY)
    def test_it_says_how_it_is(self, name: str) -> None:
        """Each lasting service has a health check of its own."""
        assert SERVICES[name]["healthcheck"]["test"]

    @each_service
    def test_it_starts_after_what_it_needs(self, name: str) -> None:
        """Dependencies are waited for until they are healthy."""
        needs = SERVICES[name].get("depends_on", {})
        assert all(need["condition"] == "service_healthy" for need in needs.values())
        if name not in ("server", "sandbox"):
            assert needs

    def test_images_are_pinned(self) -> None:
        """What is pulled has a patch release in its tag; a digest may follow."""
        pulled = [service["image"] for service in SERVICES.values() if "build" not in service]
        assert pulled
        release = re.compile(rf"[a-z/]+:\d+\.\d+\.\d+[a-z0-9.-]*{DIGEST}")
        assert all(release.fullmatch(image) for image in pulled)

    def test_what_is_published_is_on_loopback(self) -> None:
        """No port is open to other machines, and the server has none at all."""
        ports = {name: service.get("ports", []) for name, service in SERVICES.items()}
        assert all(port.startswith("127.0.0.1:") for found in ports.values() for port in found)
        assert {name for name, found in ports.items() if found} == {"flower", "sandbox", "producer"}
        assert COMPOSE["networks"]["store"]["internal"] is True
        assert SERVICES["server"]["networks"] == ["store"]

    def test_demo_parts_need_the_profile(self) -> None:
        """A plain `docker compose up` starts no sandbox."""
        by_profile = {name for name, service in SERVICES.items() if service.get("profiles")}
        assert by_profile == {"sandbox", "demo"}


# Where things are in a container is the file's to say, not the settings' of a deployment.
PLACES = {"data_dir", "audiences", "metrics_bind", "alive_file"}
OF_THE_DOOR = ("producer_", "webhook_", "write_keys", "shared_secret")


class TestNeeds:
    """Each service has what it needs and nothing else."""

    @each_service
    def test_no_file_of_settings_is_poured_in(self, name: str) -> None:
        """What a service is given is named for it, one by one."""
        assert "env_file" not in SERVICES[name]

    def test_the_worker_can_be_given_every_setting_of_the_engine(self) -> None:
        """A setting in .env that no service takes would have no effect, and nobody would say so."""
        secrets = {
            name
            for field in Settings.model_fields
            if field.endswith("_file") and field != "alive_file"
            for name in (field, field.removesuffix("_file"))
        }
        wanted = {
            f"PERSONA_SYNC_{name.upper()}"
            for name in Settings.model_fields
            if name not in secrets | PLACES and not name.startswith(OF_THE_DOOR)
        }
        given = SERVICES["worker"]["environment"]
        passed_on = {name for name, value in given.items() if value is None}
        assert wanted - passed_on == {"PERSONA_SYNC_LOG_FORMAT"}
        assert passed_on <= wanted

    def test_the_producer_can_be_given_every_setting_of_its_own(self) -> None:
        """What its section of the settings holds is said in the file, passed on, or a secret."""
        given = SERVICES["producer"]["environment"]
        fields = [name for name in Settings.model_fields if name.startswith(OF_THE_DOOR)]
        assert fields
        for name in fields:
            is_file = f"{name}_file" in Settings.model_fields
            assert f"PERSONA_SYNC_{name.upper()}{'_FILE' if is_file else ''}" in given

    def test_only_who_sends_knows_braze(self) -> None:
        """The key and the address of Braze are the worker's; the sandbox knows nothing of ours."""
        keys = {name for name, it in SERVICES.items() if "braze_api_key" in it.get("secrets", [])}
        told = {
            name
            for name, service in SERVICES.items()
            if any("BRAZE" in variable for variable in service.get("environment", {}))
        }
        assert keys == told == {"worker"}
        assert not {"environment", "secrets"} & set(SERVICES["sandbox"])
        assert set(SERVICES["beat"]["secrets"]) == {"redis_url"}

    def test_only_who_sends_gets_out(self) -> None:
        """Server and beat see the inner network only, and Flower's hands on nothing outwards."""
        networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
        assert networks["server"] == networks["beat"] == {"store"}
        assert networks["flower"] == {"store", "watch"}
        assert networks["producer"] == {"store", "door"}
        assert COMPOSE["networks"]["door"] == COMPOSE["networks"]["watch"]
        watch = COMPOSE["networks"]["watch"]["driver_opts"]
        assert watch == {"com.docker.network.bridge.enable_ip_masquerade": "false"}
        assert [name for name, seen in networks.items() if "watch" in seen] == ["flower"]

    def test_metrics_stay_inside(self) -> None:
        """The worker's port for Prometheus is the one that it listens on, and is not published."""
        worker = SERVICES["worker"]
        (port,) = worker["expose"]
        assert worker["environment"]["PERSONA_SYNC_METRICS_BIND"] == f"0.0.0.0:{port}"
        producer = SERVICES["producer"]
        (port,) = producer["expose"]
        bound = producer["environment"]["PERSONA_SYNC_PRODUCER_METRICS_BIND"]
        assert bound == f"0.0.0.0:{port}"
        assert not [published for published in producer["ports"] if port in published]

    @pytest.mark.parametrize("name", ["worker", "beat"])
    def test_a_health_check_costs_nothing(self, name: str) -> None:
        """It looks at a file, in a folder that can be written; no interpreter is started for it."""
        kind, test = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD-SHELL"
        assert test.startswith('test -n "$$(find /tmp ')
        assert not re.search("python|celery", test)

    def test_the_worker_touches_what_its_health_check_looks_at(self) -> None:
        """One file, named twice."""
        place = Path(SERVICES["worker"]["environment"]["PERSONA_SYNC_ALIVE_FILE"])
        assert place.parent == Path("/tmp")
        assert f"-name {place.name} " in SERVICES["worker"]["healthcheck"]["test"][1]

    def test_the_demo_names_a_braze_that_the_engine_takes(self) -> None:
        """The address in deploy/demo.env is the sandbox's, and one that may be called."""
        lines = (ROOT / "deploy" / "demo.env").read_text().splitlines()
        found = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
        endpoint = found["PERSONA_SYNC_BRAZE_ENDPOINT"]
        assert rest_url(endpoint) == endpoint
        assert endpoint == f"http://sandbox:{SERVICES['sandbox']['command'][-2]}"


class TestSecrets:
    """Where they are, and where they are not."""

    def test_they_are_files_outside_the_repository(self) -> None:
        """Each secret is a file in an ignored folder."""
        ignored = (ROOT / "deploy" / ".gitignore").read_text().split()
        for secret in COMPOSE["secrets"].values():
            assert "/deploy/secrets}/" in secret["file"]
        assert {"secrets/", "secrets-*/"} <= set(ignored)

    @each_service
    def test_no_value_is_in_the_environment(self, name: str) -> None:
        """Variables that speak of secrets name a file that the service is given."""
        given = SERVICES[name].get("environment", {})
        named = {
            value
            for variable, value in given.items()
            if variable.endswith("_FILE") and variable != "PERSONA_SYNC_ALIVE_FILE"
        }
        assert named <= {f"/run/secrets/{secret}" for secret in SERVICES[name].get("secrets", [])}
        secret = re.compile(r"PASSWORD|KEY$|SECRET|TOKEN|AUTH|LOGIN$|URL$")
        plain = [variable for variable in given if not variable.endswith("_FILE")]
        assert not [variable for variable in plain if secret.search(variable)]

    def test_password_is_not_an_argument(self) -> None:
        """The server reads its password from standard input, not from its command line."""
        assert "--requirepass" not in flags("server")
        assert "requirepass $$password" in flags("server")

    @pytest.mark.parametrize("name", ["env.example", "demo.env"])
    def test_examples_hold_none(self, name: str) -> None:
        """The files to be copied hold no key, password or URL with a login."""
        text = (ROOT / "deploy" / name).read_text()
        assert not re.search(r"(KEY|PASSWORD|TOKEN)=|://[^/\s]*@", text)

    def test_script_makes_what_compose_asks_for(self, tmp_path: Path) -> None:
        """Random ones, in a folder for its owner only; a second run changes nothing."""
        script = shutil.copy(ROOT / "deploy" / "new-secrets.sh", tmp_path)
        assert run("sh", script).returncode == 0
        folder = tmp_path / "secrets"
        first = {file.name: file.read_text() for file in folder.iterdir()}
        assert set(first) == set(COMPOSE["secrets"])
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        password = first["redis_password"].strip()
        assert len(password) >= 32
        assert first["redis_url"].strip() == f"redis://:{password}@server:6379/0"
        assert first["braze_api_key"] == first["notice_webhook"] == ""
        (folder / "braze_api_key").write_text("a key of yours")
        assert run("sh", script).returncode == 0
        second = {file.name: file.read_text() for file in folder.iterdir()}
        assert second == {**first, "braze_api_key": "a key of yours"}
        assert run("sh", script, "demo").returncode == 0
        other = (tmp_path / "secrets-demo" / "redis_password").read_text()
        assert other not in first.values()


class TestFlower:
    """Its settings file, run as Flower runs it."""

    def read(self, monkeypatch: pytest.MonkeyPatch, login: Path) -> dict[str, Any]:
        monkeypatch.setenv("FLOWER_LOGIN_FILE", str(login))
        return runpy.run_path(str(ROOT / "deploy" / "flower_config.py"))

    def test_login_comes_from_its_file(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """One login, and nobody steers through Flower."""
        login = tmp_path / "login"
        login.write_text("admin:secret\n")
        found = self.read(monkeypatch, login)
        assert found["basic_auth"] == ["admin:secret"]
        assert found["read_only"] is True

    @pytest.mark.parametrize("content", [None, "", "admin", "admin:", ":secret"])
    def test_it_does_not_start_without_one(
        self, content: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A missing or unfinished login ends it, naming the file and not what is in it."""
        login = tmp_path / "login"
        if content is not None:
            login.write_text(content)
        with pytest.raises(SystemExit) as ended:
            self.read(monkeypatch, login)
        assert str(login) in str(ended.value)
        assert "secret" not in str(ended.value).replace(str(login), "")


class TestEngine:
    """What the engine needs of its containers."""

    def test_server_keeps_what_was_accepted(self) -> None:
        """Every write on disk before the answer, nothing evicted, a volume, a bounded memory."""
        line = flags("server")
        assert "--appendonly yes --appendfsync always" in line
        assert "--maxmemory-policy noeviction" in line
        assert "--maxmemory $" in line
        assert "server-data:/data" in SERVICES["server"]["volumes"]

    def test_workers_scale(self) -> None:
        """No fixed name, no port, a node name that differs by container."""
        worker = SERVICES["worker"]
        assert not {"container_name", "ports", "hostname"} & set(worker)
        assert "--hostname=worker@%h" in worker["command"]
        assert {"--pool=threads", "--concurrency=64"} <= set(worker["command"])
        assert {"--without-gossip", "--without-mingle"} <= set(worker["command"])
        assert worker["stop_grace_period"] == "30s"

    def test_every_queue_is_consumed(self) -> None:
        """A worker without --queues takes from all that the app declares: all of the contract."""
        assert not [
            part for part in SERVICES["worker"]["command"] if part.startswith(("-Q", "--q"))
        ]
        named = {value for name, value in vars(QueueName).items() if name.isupper()}
        assert set(QUEUES) == named == set(QUEUE_OF_TASK.values())

    @each_service
    def test_config_is_where_it_is_looked_for(self, name: str) -> None:
        """Whoever reads audiences.yaml has its folder."""
        service = SERVICES[name]
        reads = "PERSONA_SYNC_AUDIENCES" in service.get("environment", {})
        mounts = any(":/etc/persona-sync:" in volume for volume in service.get("volumes", []))
        assert reads == mounts
