"""Finds the chain's last link by its index always.

A connection plans the look-up once, at its first event. Where the table of links was still small
then, it kept on reading all of it for each event, until statistics were renewed.
"""

from django.db import migrations

_FUNCTION = "ALTER FUNCTION audit_chain(uuid, timestamptz, text)"


class Migration(migrations.Migration):
    dependencies = [("cases", "0025_retention")]
    operations = [
        migrations.RunSQL(f"{_FUNCTION} SET enable_seqscan = off", f"{_FUNCTION} RESET ALL")
    ]
