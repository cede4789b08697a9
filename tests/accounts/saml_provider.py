"""A real SAML 2.0 provider on loopback: Debian's SimpleSAMLphp by PHP's own web server.

The program and its defaults are Debian's; here are one user, the site as it knows it, and a key.
"""

import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path("/usr/share/simplesamlphp/www")
PASSWORD = "provider's own horse"

_CONFIG = """<?php
$config = [
    'baseurlpath' => '{origin}/',
    'certdir' => '{folder}/',
    'loggingdir' => '{folder}/',
    'datadir' => '{folder}/',
    'tempdir' => '{folder}/tmp',
    'metadatadir' => '{folder}/metadata/',
    'secretsalt' => 'of a test',
    'auth.adminpassword' => 'of a test',
    'timezone' => 'UTC',
    'logging.handler' => 'file',
    'enable.saml20-idp' => true,
    'session.phpsession.savepath' => '{folder}/tmp',
    'store.type' => 'phpsession',
    'module.enable' => ['exampleauth' => true, 'core' => true, 'saml' => true],
    'metadata.sources' => [['type' => 'flatfile']],
    'trusted.url.domains' => null,
];
"""

_SOURCES = """<?php
$config = [
    'people' => [
        'exampleauth:UserPass',
        'grace:{password}' => [
            'uid' => ['grace'], 'sn' => ['Hopper'], 'groups' => ['path', 'else'],
        ],
    ],
];
"""

_HOSTED = """<?php
$metadata['{origin}/metadata'] = [
    'host' => '__DEFAULT__',
    'privatekey' => 'key.pem',
    'certificate' => 'cert.pem',
    'auth' => 'people',
    'userid.attribute' => 'uid',
    'NameIDFormat' => 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent',
    'signature.algorithm' => 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
];
"""

_SITE = """<?php
$metadata['{entity}'] = [
    'AssertionConsumerService' => '{acs}',
    'NameIDFormat' => 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent',
    'simplesaml.nameidattribute' => 'uid',
    'saml20.sign.assertion' => true,
];
"""


def is_installed() -> bool:
    """Return whether the machine has SimpleSAMLphp and PHP."""
    return ROOT.is_dir() and Path("/usr/bin/php").exists()


@contextmanager
def running(
    folder: Path, port: int, *, certificate: str, key: str, entity: str, acs: str
) -> Iterator[str]:
    """Start the provider for the site with that entity id; yield its origin."""
    origin = f"http://127.0.0.1:{port}"
    names = {
        "folder": folder,
        "origin": origin,
        "entity": entity,
        "acs": acs,
        "password": PASSWORD.replace("'", "\\'"),
    }
    (folder / "metadata").mkdir()
    (folder / "tmp").mkdir()
    (folder / "key.pem").write_text(key)
    (folder / "cert.pem").write_text(certificate)
    for name, text in {
        "config.php": _CONFIG,
        "authsources.php": _SOURCES,
        "metadata/saml20-idp-hosted.php": _HOSTED,
        "metadata/saml20-sp-remote.php": _SITE,
    }.items():
        (folder / name).write_text(re.sub(r"\{(\w+)\}", lambda m: str(names[m[1]]), text))
    process = subprocess.Popen(
        ["/usr/bin/php", "-S", f"127.0.0.1:{port}", "-t", str(ROOT)],
        env={**os.environ, "SIMPLESAMLPHP_CONFIG_DIR": str(folder)},
        stdout=(folder / "php.log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_for(f"{origin}/saml2/idp/metadata.php", process, folder)
        yield origin
    finally:
        process.terminate()
        process.wait(timeout=10)


class Browser:
    """What a person's browser does at the provider: follows, keeps cookies, sends the form."""

    def __init__(self) -> None:
        self.open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open

    def sign_on(self, address: str, password: str = PASSWORD) -> tuple[str, dict[str, str]]:
        """Return the text of the provider's last page, and the fields of the form in it."""
        with self.open(address, timeout=30) as page:
            where, text = page.geturl(), page.read().decode()
        fields = _fields(text) | {"username": "grace", "password": password}
        with self.open(where, urlencode(fields).encode(), timeout=30) as page:
            text = page.read().decode()
        return text, _fields(text)


def _fields(page: str) -> dict[str, str]:
    found = {}
    for tag in re.findall(r"<input[^>]*>", page):
        said = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if said.get("type") == "hidden" and "name" in said:
            found[said["name"]] = unescape(said.get("value", ""))
    return found


def _wait_for(address: str, process: subprocess.Popen, folder: Path) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(address, timeout=20).close()
            return
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()[:3000]) from error
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the provider does not answer: {(folder / 'php.log').read_text()[-2000:]}")
