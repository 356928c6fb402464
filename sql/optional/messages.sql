-- Optional: an event without a row. For outbox.message_prefix = 'outbox'; the server keeps nothing of it but its log, so there
-- is nothing to clean up, and nothing to send again either.
--
--   SELECT outbox_emit('order', '42', 'OrderPaid', '{"amount": 1999}');
CREATE FUNCTION outbox_emit(
    aggregate_type text,
    aggregate_id   text,
    event_type     text,
    payload        jsonb,
    id             uuid DEFAULT gen_random_uuid()
) RETURNS uuid
LANGUAGE sql VOLATILE AS $$
    -- true: with the transaction, or not at all.
    SELECT id FROM pg_logical_emit_message(true, 'outbox', jsonb_build_object(
        'id', id, 'aggregate_type', aggregate_type, 'aggregate_id', aggregate_id, 'event_type', event_type,
        'payload', payload)::text)
$$;
