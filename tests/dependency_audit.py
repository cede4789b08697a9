"""Known weaknesses of the pinned packages: `python -m tests.dependency_audit`.

pip-audit asks PyPI's advisory service about each line of the lock files. Where that service does
not answer (a closed network, a mirror without advisories), the check is left out with a line
that says so. A known weakness fails it, unless IGNORED says why it does not reach PathSearch.
"""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock")
PROBE = "https://pypi.org/pypi/django/5.2/json"
SECONDS = 120
# Advisory -> why it does not reach us. Look at each again when its package is updated.
IGNORED: dict[str, str] = {}


def answers(address: str = PROBE) -> bool:
    """Return whether the advisory service is there: it tells weaknesses with a release."""
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:  # a constant https address
            return "vulnerabilities" in json.load(reply)
    except (OSError, ValueError, urllib.error.HTTPError):
        return False


def main() -> int:
    """Print what was found; return 1 where a pinned package has a known weakness."""
    if not answers():
        print("Dependency audit left out: PyPI's advisory service does not answer here.")
        return 0
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--timeout", "5"]
    command += ["--progress-spinner", "off"]
    for lock in LOCKS:
        command += ["-r", str(ROOT / lock)]
    for advisory in IGNORED:
        command += ["--ignore-vuln", advisory]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        print(f"Dependency audit left out: no answer within {SECONDS} s.")
        return 0
    print(done.stdout or done.stderr)
    # Findings come as a table; anything else that failed is the service's failure, not ours.
    return 1 if done.returncode and "Fix Versions" in done.stdout else 0


if __name__ == "__main__":
    sys.exit(main())
