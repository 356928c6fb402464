-- The role the relay logs in as, with the least it can work with: LOGIN, REPLICATION, and CONNECT on this database.
--
-- Run by: a superuser; since PostgreSQL 16 a role with CREATEROLE and REPLICATION is enough.
-- Before the slot, so that the relay can take the slot the moment it exists; otherwise the order does not matter.
--
-- No SELECT on the outbox: REPLICATION alone reads the slot. Guard this role's password like a superuser's all the
-- same, because REPLICATION also allows a physical copy of the whole server where pg_hba.conf has a line for it.
-- The role is made without a password. To give it one:  \password outbox_relay  in psql.

DO $$
BEGIN
    -- CREATE ROLE has no IF NOT EXISTS. A role that exists is left as it is.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'outbox_relay') THEN
        IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rds_replication') THEN
            -- Amazon RDS and Aurora: nobody there can have REPLICATION; this membership stands for it.
            CREATE ROLE outbox_relay LOGIN;
            GRANT rds_replication TO outbox_relay;
        ELSE
            CREATE ROLE outbox_relay LOGIN REPLICATION;
        END IF;
    END IF;

    -- Usually PUBLIC may connect anyway; this keeps the relay working where that was revoked.
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO outbox_relay', current_database());
END
$$;
