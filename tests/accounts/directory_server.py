"""A real LDAP directory on loopback: OpenLDAP's slapd, with people and groups of a hospital."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.live_site import free_port, wait_until

SLAPD, SLAPADD = "/usr/sbin/slapd", "/usr/sbin/slapadd"
BASE = "dc=example,dc=org"
READER, READER_PASSWORD = f"cn=reader,{BASE}", "reads the directory"
PASSWORD = "directory's own horse"

_CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {folder}/pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile {folder}/cert.pem
TLSCertificateFile {folder}/cert.pem
TLSCertificateKeyFile {folder}/key.pem
disallow bind_anon
database mdb
suffix "{base}"
rootdn "cn=admin,{base}"
rootpw admin
directory {folder}/db
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" read by * none
"""

_ENTRIES = """
dn: {base}
objectClass: dcObject
objectClass: organization
o: Hospital
dc: example

dn: {reader}
objectClass: person
cn: reader
sn: reader
userPassword: {reader_password}

dn: ou=people,{base}
objectClass: organizationalUnit
ou: people

dn: ou=groups,{base}
objectClass: organizationalUnit
ou: groups

dn: uid=grace,ou=people,{base}
objectClass: inetOrgPerson
uid: grace
cn: Grace Hopper
givenName: Grace
sn: Hopper
userPassword: {password}

dn: uid=alan,ou=people,{base}
objectClass: inetOrgPerson
uid: alan
cn: Alan Turing
givenName: Alan
sn: Turing
userPassword: {password}

dn: cn=path,ou=groups,{base}
objectClass: groupOfNames
cn: path
member: uid=grace,ou=people,{base}

dn: cn=tech,ou=groups,{base}
objectClass: groupOfNames
cn: tech
member: uid=alan,ou=people,{base}
"""


@dataclass
class Directory:
    """Where it listens, and its administrator's way to change it."""

    url: str
    secret_url: str
    certificate: Path

    def change(self, dn: str, **values: list[str]) -> None:
        """Replace attributes of an entry."""
        import ldap

        connection = ldap.initialize(self.url)
        connection.simple_bind_s(f"cn=admin,{BASE}", "admin")
        changes = [
            (ldap.MOD_REPLACE, name, [value.encode() for value in told] or None)
            for name, told in values.items()
        ]
        connection.modify_s(dn, changes)
        connection.unbind_s()

    def rename(self, dn: str, to: str) -> None:
        """Give an entry another name at its place."""
        import ldap

        connection = ldap.initialize(self.url)
        connection.simple_bind_s(f"cn=admin,{BASE}", "admin")
        connection.rename_s(dn, to)
        connection.unbind_s()


def is_installed() -> bool:
    """Return whether the machine has slapd."""
    return Path(SLAPD).exists()


@contextmanager
def running(folder: Path, certificate: str, key: str) -> Iterator[Directory]:
    """Start the directory in the folder; stop it in the end."""
    (folder / "db").mkdir()
    (folder / "cert.pem").write_text(certificate)
    (folder / "key.pem").write_text(key)
    names = {"folder": folder, "base": BASE, "reader": READER}
    (folder / "slapd.conf").write_text(_CONFIGURATION.format(**names))
    secrets = {"reader_password": READER_PASSWORD, "password": PASSWORD}
    (folder / "entries.ldif").write_text(_ENTRIES.format(**names, **secrets).lstrip())
    configuration = str(folder / "slapd.conf")
    subprocess.run(
        [SLAPADD, "-f", configuration, "-l", str(folder / "entries.ldif")],
        check=True,
        capture_output=True,
    )
    ports = [free_port(), free_port()]
    plain, secret = f"ldap://127.0.0.1:{ports[0]}", f"ldaps://127.0.0.1:{ports[1]}"
    process = subprocess.Popen(
        [SLAPD, "-f", configuration, "-h", f"{plain} {secret}", "-d", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for port in ports:
            wait_until(partial(_listens, port, process), seconds=30, what="slapd to listen")
        yield Directory(plain, secret, folder / "cert.pem")
    finally:
        process.terminate()
        process.wait(timeout=10)
        shutil.rmtree(folder / "db")


def _listens(port: int, process: subprocess.Popen) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"slapd ended with {process.returncode}")
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
