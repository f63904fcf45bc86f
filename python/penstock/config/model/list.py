"""Lists that expressions look into: `host in list("social")`."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from penstock.config.model.base import Model, Size, Timeout
from penstock.config.model.listener import one_or_many

Places = Annotated[tuple[str, ...], BeforeValidator(one_or_many, json_schema_input_type=str | tuple[str, ...])]


class List(Model):
    """Domains, networks or regular expressions, one a line, from files or addresses."""

    file: Places = ()
    """A file or several, relative to the configuration file. One that changes is read anew at once, without a
    reload."""
    url: Places = ()
    """An address or several ("https://lists.example/social.txt"), fetched every `refresh`. What was fetched is kept
    for the next start."""
    kind: Literal["domains", "hosts", "adblock", "networks", "regex"] = "domains"
    """What a line is: "domains" (a domain, which stands for all its subdomains), "hosts" (an address and names, as in
    /etc/hosts), "adblock" (rules such as ||example.com^; those that are not about a whole domain are left out),
    "networks" (CIDR) or "regex" (found anywhere). Default "domains"."""
    refresh: Timeout = timedelta(hours=1)
    """How often it is fetched, and read anew. Default "1h"."""
    max_size: Annotated[Size, Field(ge=1, le=1 << 30)] = 256 << 20
    """Bytes of all its files together; a larger one is not used. Default "256MB"."""
