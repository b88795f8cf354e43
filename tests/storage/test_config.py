from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from storage.config import (
    LocalStorage,
    MemoryStorage,
    SqliteStorage,
    StorageConfig,
    storage_config_of,
)

ADAPTER: TypeAdapter[StorageConfig] = TypeAdapter(StorageConfig)


class Larger(BaseModel):
    storage: StorageConfig


def test_the_kind_chooses_the_variant():
    assert ADAPTER.validate_python({"kind": "memory"}) == MemoryStorage()
    assert ADAPTER.validate_python({"kind": "local", "data_dir": "d"}) == LocalStorage(
        data_dir=Path("d")
    )
    assert ADAPTER.validate_python({"kind": "sqlite", "data_dir": "d"}) == SqliteStorage(
        data_dir=Path("d")
    )


@pytest.mark.parametrize(
    "values",
    [{}, {"kind": "tape"}, {"kind": "sqlite"}, {"kind": "memory", "data_dir": "d"}],
)
def test_what_names_no_medium_is_refused(values):
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(values)


def test_the_storage_part_is_found_in_a_larger_configuration():
    assert storage_config_of(Larger(storage=MemoryStorage())) == MemoryStorage()
    assert storage_config_of(MemoryStorage()) == MemoryStorage()
