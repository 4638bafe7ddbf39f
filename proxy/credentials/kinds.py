"""Every kind of credential the configuration can name, and what makes one.

A new kind is a file of its own beside this one and one row here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from proxy.core.model import Credential, KeyPower
from proxy.credentials.api_key import ApiKey
from proxy.credentials.secret import Secret

MakeCredential = Callable[[str, Secret, KeyPower], Credential]
"""Name, secret and declared power in; a credential out. Raises ``SecretError``."""

KINDS: Mapping[str, MakeCredential] = MappingProxyType({"api-key": ApiKey})
