"""The service's secret: made when it is first needed, refused when nothing could be derived from it."""

import json
from pathlib import Path

import pytest
from sqlalchemy import delete

from app.secret import load_secret, secret_of
from app.settings import Settings, SettingsError
from database.clock import now
from database.identifier import new_id
from database.models import ApiKey
from database.repositories.import_repository import ImportRepository
from database.session import Database
from tests.conftest import make_tenant
from tests.process import KEY, environment, run_module, started_service


async def test_a_secret_is_made_once_for_this_user_alone(tmp_path: Path, database: Database) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    made = await secret_of(database, settings)
    assert len(made) >= 32
    assert (await secret_of(database, settings), load_secret(settings)) == (made, made)
    assert (tmp_path / "data" / "secret").stat().st_mode & 0o777 == 0o600


async def test_no_secret_is_made_for_keys_that_were_made_with_another(tmp_path: Path, database: Database) -> None:
    await make_tenant(database, "ours")
    settings = Settings(data_dir=tmp_path / "mistyped")
    for _ in range(2):
        with pytest.raises(SettingsError, match=r"mistyped/secret: there is no such file.*CHATGLM_DATA_DIR"):
            await secret_of(database, settings)
    assert not (tmp_path / "mistyped").exists()


async def test_a_secret_is_made_for_keys_that_were_imported(tmp_path: Path, database: Database) -> None:
    tenant = await make_tenant(database, "ours")
    async with database.begin_global() as session:
        await session.execute(delete(ApiKey))
        await ImportRepository(session).add_missing_keys(tenant.tenant_id, {new_id(): "elsewhere"}, now())
    assert len(await secret_of(database, Settings(data_dir=tmp_path))) >= 32


@pytest.mark.parametrize("held", [b"", b"\n", b"x" * 31 + b"\n", b"\xff" * 40])
def test_a_file_that_is_no_secret_is_refused_by_its_name(tmp_path: Path, held: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(held)
    with pytest.raises(SettingsError) as error:
        load_secret(Settings(data_dir=tmp_path))
    assert f"{path}: must have at least 32 characters" in str(error.value)
    assert "xxx" not in str(error.value)
    assert path.read_bytes() == held


def test_a_service_does_not_start_on_an_empty_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    done = run_module("app", "--upgrade", env=environment(tmp_path))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert f"{tmp_path / 'secret'}: must have at least 32 characters" in done.stderr


def test_a_service_without_the_secret_of_its_keys_says_what_to_do(tmp_path: Path) -> None:
    env = environment(tmp_path / "data", bootstrap_api_key=KEY)
    with started_service(env, tmp_path / "log"):
        pass
    path = tmp_path / "data" / "secret"
    path.rename(tmp_path / "secret")
    done = run_module("app", env=env)
    assert (done.returncode, "Traceback" in done.stderr, path.exists()) == (2, False, False)
    assert f"{path}: there is no such file." in done.stderr
    # The keys' secret is given up, as that sentence says.
    path.write_text("y" * 40)
    with started_service(env, tmp_path / "log") as service:
        assert service.client.get("/v1/models").status_code == 401
        refused = run_module("tools.admin", "key", "create", "default", env=env)
        assert (refused.returncode, "--force" in refused.stderr) == (1, True)
        made = run_module("tools.admin", "key", "create", "default", "--force", "--json", env=env)
        headers = {"Authorization": f"Bearer {json.loads(made.stdout)[0]['key']}"}
        assert service.client.get("/v1/models", headers=headers).status_code == 200
    assert "every key of the database is refused" in (tmp_path / "log").read_text()
