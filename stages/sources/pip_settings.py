"""The package index that pip is configured with."""

import ast
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

from pypi_simple import PYPI_SIMPLE_ENDPOINT, PyPISimple
from requests import PreparedRequest, Session
from requests.auth import HTTPBasicAuth
from requests.utils import get_auth_from_url, urldefragauth


@functools.cache
def _configured() -> dict[str, str]:
    # Only pip knows all the places of its files; where pip itself is missing there are none.
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    lines = (line.partition("=") for line in listed.splitlines())
    return {key: str(ast.literal_eval(value)) for key, _, value in lines if value}


def _setting(key: str) -> str:
    variable = "PIP_" + key.upper().replace("-", "_")
    files = _configured()
    return (
        os.environ.get(variable) or files.get(f"install.{key}") or files.get(f"global.{key}") or ""
    )


def _only_for(
    host: str | None, auth: HTTPBasicAuth
) -> Callable[[PreparedRequest], PreparedRequest]:
    """Credentials that are sent to the index's own host, and to no file server elsewhere."""

    def authorise(request: PreparedRequest) -> PreparedRequest:
        return auth(request) if urlsplit(request.url or "").hostname == host else request

    return authorise


def index_clients() -> list[PyPISimple]:
    """A client of each index that pip would ask, in pip's order; PyPI by default.

    Honoured are index-url, extra-index-url and cert, from PIP_* variables and pip's
    configuration files. An index that is a folder is left out.
    """
    urls = [_setting("index-url") or PYPI_SIMPLE_ENDPOINT, *_setting("extra-index-url").split()]
    clients = []
    for url in urls:
        if urlsplit(url).scheme not in ("http", "https"):
            continue
        session = Session()
        session.verify = _setting("cert") or True
        user, password = get_auth_from_url(url)
        if user or password:
            session.auth = _only_for(urlsplit(url).hostname, HTTPBasicAuth(user, password))
        # Without its credentials the URL can be shown in an error.
        clients.append(PyPISimple(urldefragauth(url), session=session))
    return clients
