"""Partitions the access events by month, refuses changes to them, and chains them by hash.

The links are written by a deferred trigger, at the very end of the transaction: the lock that
puts them in one order is held for the moment of the commit only.
"""

from django.db import migrations

TABLES = """
ALTER TABLE cases_accessevent RENAME TO cases_accessevent_unpartitioned;
CREATE TABLE cases_accessevent (LIKE cases_accessevent_unpartitioned INCLUDING DEFAULTS)
    PARTITION BY RANGE (at);
-- Takes what no month takes, so that an event is never refused.
CREATE TABLE cases_accessevent_other PARTITION OF cases_accessevent DEFAULT;

CREATE FUNCTION audit_month_ensure(first_day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    partition text := 'cases_accessevent_' || to_char(first_day, '"y"YYYY"m"MM');
    month_end date := (first_day + interval '1 month')::date;
BEGIN
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- Rows that already fell into the catch-all stay there: they are never moved.
    IF EXISTS (SELECT 1 FROM cases_accessevent_other
               WHERE at >= first_day::timestamp AT TIME ZONE 'UTC'
                 AND at < month_end::timestamp AT TIME ZONE 'UTC') THEN
        RETURN false;
    END IF;
    EXECUTE format(
        'CREATE TABLE %I PARTITION OF cases_accessevent FOR VALUES FROM (%L) TO (%L)',
        partition,
        first_day::timestamp AT TIME ZONE 'UTC',
        month_end::timestamp AT TIME ZONE 'UTC'
    );
    EXECUTE format(
        'CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON %I '
        'FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change()', partition
    );
    RETURN true;
END $$;

CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The audit is append-only: % of % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

SELECT audit_month_ensure((date_trunc('month', day) )::date)
FROM generate_series(
    (SELECT coalesce(min(at), now()) AT TIME ZONE 'UTC' FROM cases_accessevent_unpartitioned),
    now() AT TIME ZONE 'UTC' + interval '3 months',
    interval '1 month'
) AS day;
INSERT INTO cases_accessevent SELECT * FROM cases_accessevent_unpartitioned;
DROP TABLE cases_accessevent_unpartitioned;

ALTER TABLE cases_accessevent ADD PRIMARY KEY (id, at);
CREATE INDEX cases_accessevent_at ON cases_accessevent (at);
CREATE INDEX cases_accessevent_patient ON cases_accessevent (patient_id, at);
CREATE INDEX cases_accessevent_user ON cases_accessevent (user_id, at DESC);
ALTER TABLE cases_accessevent ADD CONSTRAINT cases_accessevent_user_id_fk
    FOREIGN KEY (user_id) REFERENCES auth_user (id) DEFERRABLE INITIALLY DEFERRED;
"""

CHAIN = """
CREATE FUNCTION audit_chain(event_id uuid, event_at timestamptz, content text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    last_seq bigint;
    last_digest bytea;
BEGIN
    PERFORM pg_advisory_xact_lock(4702394921427289941);
    SELECT seq, digest INTO last_seq, last_digest
        FROM cases_auditseal ORDER BY seq DESC LIMIT 1;
    INSERT INTO cases_auditseal (seq, event_id, event_at, digest) VALUES (
        coalesce(last_seq, 0) + 1,
        event_id,
        event_at,
        sha256(coalesce(last_digest, ''::bytea) || convert_to(content, 'UTF8'))
    );
END $$;

CREATE FUNCTION audit_content(
    id uuid, at timestamptz, user_id bigint, action text, channel text, address inet,
    department_id bigint, patient_id uuid, object_type text, object_id text, outcome text,
    reason text, request_id text, detail jsonb
) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_array(
        id, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), user_id, action,
        channel, host(address), department_id, patient_id, object_type, object_id, outcome,
        reason, request_id, detail
    )::text
$$;

CREATE FUNCTION audit_seal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM audit_chain(NEW.id, NEW.at, audit_content(
        NEW.id, NEW.at, NEW.user_id, NEW.action, NEW.channel, NEW.address, NEW.department_id,
        NEW.patient_id, NEW.object_type, NEW.object_id, NEW.outcome, NEW.reason,
        NEW.request_id, NEW.detail));
    RETURN NULL;
END $$;

-- Events from before the chain are its first links, in the order of their time.
SELECT audit_chain(id, at, audit_content(
    id, at, user_id, action, channel, address, department_id, patient_id, object_type,
    object_id, outcome, reason, request_id, detail))
FROM (SELECT * FROM cases_accessevent ORDER BY at, id) AS earlier;

CREATE CONSTRAINT TRIGGER audit_seal AFTER INSERT ON cases_accessevent
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_seal();
CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON cases_accessevent
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_change();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON cases_accessevent
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON cases_accessevent_other
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON cases_auditseal
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_change();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON cases_auditseal
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON cases_auditretirement
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_change();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON cases_auditretirement
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("cases", "0009_audit_chain_models")]
    operations = [migrations.RunSQL(TABLES), migrations.RunSQL(CHAIN)]
