"""What users keep secret: the public contract."""

from storage.secrets.base import SecretsChange, SecretsStore, SecretsStores
from storage.secrets.model import CustomSecret, ProviderToken, Secrets

__all__ = [
    "CustomSecret",
    "ProviderToken",
    "Secrets",
    "SecretsChange",
    "SecretsStore",
    "SecretsStores",
]
